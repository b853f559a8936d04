# Kernels: one backend interface, several instruction sets in one library. Each file of an
# instruction set is compiled for it, and called only when the processor has it.
pr_library(pr_kernels kernels/cpu pr_model Threads::Threads m)
