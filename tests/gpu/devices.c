/* tests/gpu/devices.c: the plug-in, and the devices that it sees. */
#include "tests/gpu/gpu.h"

int main(int argc, char **argv)
{
    gpu g;
    gpu_open(&g, argc, argv);
    printf("plug-in: %s%s, ABI %u\n", g.plugin->description,
           g.plugin->is_simulated ? " (simulated)" : "", g.plugin->abi);
    for (int i = 0; i < g.n_devices; i++) {
        const pr_cuda_device *d = &g.devices[i];
        printf("device %d: %s, sm_%d, %.2f of %.2f GB free\n", d->index, d->name, d->capability,
               (double)d->free_bytes * 1e-9, (double)d->total_bytes * 1e-9);
        gpu_result(&g, "device",
                   json_pack("{s:i, s:s, s:i, s:I, s:I}", "index", d->index, "name", d->name,
                             "capability", d->capability, "total_bytes", (json_int_t)d->total_bytes,
                             "free_bytes", (json_int_t)d->free_bytes));
    }
    const pr_device *s = g.sheet;
    printf("data sheet: %s\n", s ? s->name : "none of this name: no predictions (--as NAME)");
    gpu_result(&g, "plug-in",
               json_pack("{s:s, s:i, s:i, s:s?}", "description", g.plugin->description, "abi",
                         (int)g.plugin->abi, "devices", g.n_devices, "data_sheet",
                         s ? s->name : NULL));
    return gpu_close(&g);
}
