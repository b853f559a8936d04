#include "program/plan_text.h"

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "-";
}

static json_int_t integer_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static double gb_of(const json_t *object, const char *key)
{
    return number_of(object, key) / 1e9;
}

static bool is_true(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

static void head_write(const json_t *a, pr_buffer *out)
{
    pr_buffer_printf(out, "%s, %s: %lld parameters, %s (%s)\n", text_of(a, "model"),
                     text_of(a, "architecture"), (long long)integer_of(a, "total_parameters"),
                     text_of(a, "dtype"), text_of(a, "dtype_source"));
    pr_buffer_printf(out,
                     "%lld tensor-parallel ranks x %lld stages (%s), %lld tokens a forward pass: "
                     "%s %.1f GB each; at most %lld tokens would\n",
                     (long long)integer_of(a, "tensor_parallel_size"),
                     (long long)integer_of(a, "pipeline_parallel_size"), text_of(a, "device"),
                     (long long)integer_of(a, "tokens_planned"),
                     is_true(a, "fits") ? "fits" : "does not fit", gb_of(a, "device_memory_bytes"),
                     (long long)integer_of(a, "max_num_batched_tokens_that_fits"));
}

static void ranks_write(const json_t *ranks, pr_buffer *out)
{
    size_t i;
    json_t *r;
    pr_buffer_append_str(out, "\nrank stage layers    weights, GB  activations  workspace  "
                              "reserved    total\n");
    json_array_foreach((json_t *)ranks, i, r)
    {
        pr_buffer_printf(out, "%4lld %5lld %-8s %12.3f %12.3f %10.3f %9.3f %8.3f%s\n",
                         (long long)integer_of(r, "rank"), (long long)integer_of(r, "stage"),
                         text_of(r, "layers"), gb_of(r, "weights_bytes"),
                         gb_of(r, "activation_bytes"), gb_of(r, "workspace_bytes"),
                         gb_of(r, "reserved_bytes"), gb_of(r, "total_bytes"),
                         is_true(r, "fits") ? "" : "  does not fit");
    }
}

static void traffic_write(const json_t *t, pr_buffer *out)
{
    const json_t *ring = json_object_get(t, "ring"), *ordered = json_object_get(t, "rank_ordered");
    pr_buffer_printf(out,
                     "\nall-reduced: %lld bytes per token and layer, %lld per token; to the next "
                     "stage %lld per token\n",
                     (long long)integer_of(t, "all_reduced_bytes_per_token_and_layer"),
                     (long long)integer_of(t, "all_reduced_bytes_per_token"),
                     (long long)integer_of(t, "stage_bytes_per_token"));
    pr_buffer_printf(out,
                     "sent by each rank: ring %.0f per token and layer (%lld steps a sum), "
                     "rank-ordered sums %.0f (%lld steps)\n",
                     number_of(ring, "sent_bytes_per_token_and_layer"),
                     (long long)integer_of(ring, "steps_per_sum"),
                     number_of(ordered, "sent_bytes_per_token_and_layer"),
                     (long long)integer_of(ordered, "steps_per_sum"));
}

static void devices_write(const json_t *a, pr_buffer *out)
{
    const json_t *devices = json_object_get(a, "devices");
    size_t i;
    json_t *d;
    if (json_array_size(devices) == 0) return;
    pr_buffer_printf(out,
                     "\nAt the data sheets' rates, texts of %lld tokens; an upper bound, not "
                     "measured:\n",
                     (long long)integer_of(a, "roofline_text_tokens"));
    pr_buffer_append_str(out, "device             tokens/s  bound    compute, ms  memory    link"
                              "    head  tokens that fit\n");
    json_array_foreach((json_t *)devices, i, d)
    {
        if (is_true(d, "fits")) {
            pr_buffer_printf(out, "%-18s %8.0f  %-8s", text_of(d, "name"),
                             number_of(d, "tokens_per_s"), text_of(d, "bound"));
        } else {
            pr_buffer_printf(out, "%-18s %8s  %-8s", text_of(d, "name"), "-", "no room");
        }
        pr_buffer_printf(out, " %11.2f %7.2f %7.2f %7.2f  %15lld\n",
                         1e3 * number_of(d, "compute_s"), 1e3 * number_of(d, "memory_s"),
                         1e3 * number_of(d, "link_s"), 1e3 * number_of(d, "head_s"),
                         (long long)integer_of(d, "max_num_batched_tokens_that_fits"));
    }
}

void pr_plan_text_write(const json_t *answer, pr_buffer *out)
{
    head_write(answer, out);
    ranks_write(json_object_get(answer, "ranks"), out);
    traffic_write(json_object_get(answer, "traffic"), out);
    devices_write(answer, out);
}
