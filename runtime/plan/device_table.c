#include "runtime/plan/device_table.h"

#define GB UINT64_C(1000000000)
#define PCIE_5_X16 128e9 /* both directions; the RTX cards have no NVLink */

/* Data sheets give tensor cores' rates "with sparsity" where they can; dense is half of it. */
static const pr_device devices[] = {
    {.name = "RTX 5090 32 GB", .memory_bytes = 32 * GB, .memory_bytes_per_s = 1.792e12,
     .dense_flops_16_bit = 209.5e12, .flops_f32 = 104.8e12, .link_bytes_per_s = PCIE_5_X16,
     .source = "NVIDIA RTX Blackwell GPU architecture white paper"},
    {.name = "A100 SXM 80 GB", .memory_bytes = 80 * GB, .memory_bytes_per_s = 2.039e12,
     .dense_flops_16_bit = 312e12, .flops_f32 = 19.5e12, .link_bytes_per_s = 600e9,
     .source = "NVIDIA A100 Tensor Core GPU data sheet"},
    {.name = "H100 SXM 80 GB", .memory_bytes = 80 * GB, .memory_bytes_per_s = 3.35e12,
     .dense_flops_16_bit = 989e12, .flops_f32 = 67e12, .link_bytes_per_s = 900e9,
     .source = "NVIDIA H100 Tensor Core GPU data sheet"},
    {.name = "H20 96 GB", .memory_bytes = 96 * GB, .memory_bytes_per_s = 4.0e12,
     .dense_flops_16_bit = 148e12, .flops_f32 = 44e12, .link_bytes_per_s = 900e9,
     .source = "NVIDIA H20 data sheet"},
    {.name = "GH200 96 GB", .memory_bytes = 96 * GB, .memory_bytes_per_s = 4.0e12,
     .dense_flops_16_bit = 989e12, .flops_f32 = 67e12, .link_bytes_per_s = 900e9,
     .source = "NVIDIA GH200 Grace Hopper Superchip data sheet"},
    {.name = "RTX PRO 6000 96 GB", .memory_bytes = 96 * GB, .memory_bytes_per_s = 1.792e12,
     .dense_flops_16_bit = 503.8e12, .flops_f32 = 126e12, .link_bytes_per_s = PCIE_5_X16,
     .source = "NVIDIA RTX PRO Blackwell GPU architecture white paper"},
    {.name = "H200 SXM 141 GB", .memory_bytes = 141 * GB, .memory_bytes_per_s = 4.8e12,
     .dense_flops_16_bit = 989e12, .flops_f32 = 67e12, .link_bytes_per_s = 900e9,
     .source = "NVIDIA H200 Tensor Core GPU data sheet"},
    {.name = "B200 192 GB", .memory_bytes = 192 * GB, .memory_bytes_per_s = 8.0e12,
     .dense_flops_16_bit = 2250e12, .flops_f32 = 80e12, .link_bytes_per_s = 1800e9,
     .source = "NVIDIA Blackwell architecture technical brief (HGX B200)"},
};

const pr_device *pr_device_at(size_t i)
{
    return i < sizeof devices / sizeof *devices ? &devices[i] : NULL;
}
