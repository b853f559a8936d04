#include "coordinator/options/config.h"

#include <assert.h>
#include <stdlib.h>

pr_dtype pr_dtype_choose(pr_dtype_choice choice, bool is_cuda, pr_dtype checkpoint_dtype,
                         const char **source)
{
    static const pr_dtype chosen[] = {[PR_DTYPE_CHOICE_FLOAT32] = PR_DTYPE_F32,
                                      [PR_DTYPE_CHOICE_BFLOAT16] = PR_DTYPE_BF16,
                                      [PR_DTYPE_CHOICE_FLOAT16] = PR_DTYPE_F16};
    static_assert(sizeof chosen / sizeof *chosen == PR_DTYPE_CHOICE_COUNT, "one dtype per choice");
    bool is_computed = checkpoint_dtype == PR_DTYPE_BF16 || checkpoint_dtype == PR_DTYPE_F16 ||
                       checkpoint_dtype == PR_DTYPE_F32;
    const char *none;
    if (!source) source = &none;
    *source = choice != PR_DTYPE_CHOICE_AUTO ? "--dtype"
              : !is_cuda                     ? "the CPU's default"
              : is_computed                  ? "config.json"
                                             : "default";
    if (choice != PR_DTYPE_CHOICE_AUTO) return chosen[choice];
    return is_cuda && is_computed ? checkpoint_dtype : PR_DTYPE_F32;
}

pr_dtype pr_config_dtype(const pr_config *config, pr_dtype checkpoint_dtype)
{
    bool is_cuda = config->device == PR_DEVICE_CHOICE_CUDA;
    return pr_dtype_choose(config->dtype, is_cuda, checkpoint_dtype, NULL);
}

const char *pr_device_choice_name(pr_device_choice device)
{
    static const char *const names[] = {"auto", "cpu", "cuda"};
    static_assert(sizeof names / sizeof *names == PR_DEVICE_CHOICE_COUNT, "one name per device");
    return names[device];
}

void pr_config_deinit(pr_config *config)
{
    if (!config) return;
    free(config->model);
    free(config->revision);
    free(config->tokenizer);
    free(config->chat_template);
    free(config->tokenizer_revision);
    free((char *)config->hub.hf_hub_cache);
    free((char *)config->hub.hf_home);
    free((char *)config->hub.xdg_cache_home);
    free((char *)config->hub.home);
    json_decref(config->hf_overrides);
    json_decref(config->override_pooler_config);
    free(config->devices);
    free(config->hostfile);
    free(config->mpirun_args);
    free(config->srun_args);
    free(config->ctrl_interface);
    free(config->cluster_key_file);
    free(config->connect);
    free(config->group);
    free(config->host);
    free(config->uds);
    free(config->port_file);
    free(config->socket);
    free(config->metrics_host);
    free(config->served_model_name);
    free(config->api_key);
    free(config->api_key_file);
    free(config->ssl_certfile);
    free(config->ssl_keyfile);
    free(config->allowed_origins);
    free(config->input);
    free(config->output);
    free(config->device_memory);
    *config = (pr_config){0};
}
