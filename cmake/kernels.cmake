# Kernels: one backend interface, several instruction sets in one library. Each file of an
# instruction set is compiled for it, and called only when the processor has it.
pr_library(pr_kernels kernels/cpu pr_model Threads::Threads m)

# POOLRANK_X86 says that the tables of AVX2, AVX-512 and AMX are linked in.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
  target_compile_definitions(pr_kernels PUBLIC POOLRANK_X86=1)
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c)
  set(amx ${avx512} -mavx512bf16 -mamx-tile -mamx-bf16)
else()
  target_compile_definitions(pr_kernels PUBLIC POOLRANK_X86=0)
endif()
get_target_property(kernel_sources pr_kernels SOURCES)
foreach(source ${kernel_sources})
  if(source MATCHES "_(avx2|avx512|amx)\\.c$")
    if(DEFINED ${CMAKE_MATCH_1})
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${${CMAKE_MATCH_1}}")
    else()
      set_source_files_properties(${source} PROPERTIES HEADER_FILE_ONLY TRUE)
    endif()
  endif()
endforeach()
