#include "runtime/model/activation.h"

#include <string.h>

bool pr_activation_parse(const char *name, pr_activation *out)
{
    static const struct {
        const char *name;
        pr_activation activation;
    } rows[] = {
        {"gelu", PR_ACTIVATION_GELU},
        {"gelu_python", PR_ACTIVATION_GELU},
        {"gelu_new", PR_ACTIVATION_GELU_TANH},
        {"gelu_fast", PR_ACTIVATION_GELU_TANH},
        {"gelu_accurate", PR_ACTIVATION_GELU_TANH},
        {"gelu_pytorch_tanh", PR_ACTIVATION_GELU_TANH},
        {"gelu_python_tanh", PR_ACTIVATION_GELU_TANH},
        {"relu", PR_ACTIVATION_RELU},
        {"silu", PR_ACTIVATION_SILU},
        {"swish", PR_ACTIVATION_SILU},
        {"tanh", PR_ACTIVATION_TANH},
        {"sigmoid", PR_ACTIVATION_SIGMOID},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].name, name) != 0) continue;
        *out = rows[i].activation;
        return true;
    }
    return false;
}

bool pr_activation_parse_torch(const char *name, pr_activation *out, bool *softmax)
{
    static const char *const places[] = {"torch.nn.modules.activation.", "torch.nn.modules.linear.",
                                         "torch.nn."};
    static const struct {
        const char *name;
        pr_activation activation;
        bool softmax;
    } rows[] = {
        {"Identity", PR_ACTIVATION_NONE, false},   {"Tanh", PR_ACTIVATION_TANH, false},
        {"Sigmoid", PR_ACTIVATION_SIGMOID, false}, {"ReLU", PR_ACTIVATION_RELU, false},
        {"GELU", PR_ACTIVATION_GELU, false},       {"SiLU", PR_ACTIVATION_SILU, false},
        {"Softmax", PR_ACTIVATION_NONE, true},
    };
    const char *class_name = NULL;
    for (size_t i = 0; i < sizeof places / sizeof *places && !class_name; i++) {
        size_t n = strlen(places[i]);
        if (strncmp(name, places[i], n) == 0) class_name = name + n;
    }
    if (!class_name) return false;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].name, class_name) != 0) continue;
        *out = rows[i].activation;
        *softmax = rows[i].softmax;
        return true;
    }
    return false;
}
