# CUDA, where its toolkit is found: the plug-in build/libpoolrank-cuda.so, which the program loads
# where --device asks for it, installed as lib/poolrank/libpoolrank-cuda.so; and the simulated device
# of tests/simcuda, which needs the toolkit's headers and a C++ compiler only.
option(POOLRANK_CUDA "Build the CUDA plug-in and its simulated device where the toolkit is found" ON)
if(POOLRANK_FUZZ OR NOT POOLRANK_CUDA)
  return()
endif()
set(POOLRANK_CUDA_ARCHITECTURES "80;90" CACHE STRING
  "Compute capabilities that the CUDA kernels are compiled for, or all: 80;90;100;120")
set(cuda_roots $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda)
find_path(PR_CUDA_INCLUDE cuda_runtime_api.h HINTS ${cuda_roots} PATH_SUFFIXES include)
find_path(PR_NCCL_INCLUDE nccl.h HINTS ${PR_CUDA_INCLUDE} ${cuda_roots} PATH_SUFFIXES include)
find_program(PR_NVCC nvcc HINTS ${cuda_roots} PATH_SUFFIXES bin)
foreach(library cudart_static cudart cublasLt nccl)
  find_library(PR_CUDA_${library} ${library} HINTS ${cuda_roots} PATH_SUFFIXES lib64 lib
    targets/x86_64-linux/lib targets/sbsa-linux/lib)
  mark_as_advanced(PR_CUDA_${library})
endforeach()
mark_as_advanced(PR_CUDA_INCLUDE PR_NCCL_INCLUDE PR_NVCC)
include(CheckLanguage)
check_language(CXX)

set(cuda_architectures ${POOLRANK_CUDA_ARCHITECTURES})
if(cuda_architectures STREQUAL "all")
  set(cuda_architectures 80 90 100 120)
endif()

# ---- the plug-in ----
set(missing "")
if(NOT PR_NVCC)
  list(APPEND missing nvcc)
endif()
if(NOT PR_CUDA_INCLUDE)
  list(APPEND missing cuda_runtime_api.h)
endif()
if(NOT PR_NCCL_INCLUDE)
  list(APPEND missing nccl.h)
endif()
if(NOT PR_CUDA_cudart_static AND NOT PR_CUDA_cudart)
  list(APPEND missing libcudart)
endif()
foreach(library cublasLt nccl)
  if(NOT PR_CUDA_${library})
    list(APPEND missing lib${library})
  endif()
endforeach()
if(NOT POOLRANK_SANITIZE STREQUAL "")
  message(STATUS "CUDA plug-in: left out, a sanitizer is of use on the simulated device only")
elseif(missing)
  list(JOIN missing ", " missing)
  message(STATUS "CUDA plug-in: left out, not found: ${missing}")
else()
  # Machine code for each, and PTX of the last one, from which a driver makes code for newer ones.
  list(GET cuda_architectures -1 newest)
  set(generate "")
  set(cuda_names "")
  foreach(arch ${cuda_architectures})
    set(code "sm_${arch}")
    if(arch EQUAL newest)
      set(code "[sm_${arch},compute_${arch}]")
    endif()
    list(APPEND generate "-gencode=arch=compute_${arch},code=${code}")
    string(APPEND cuda_names " sm_${arch}")
  endforeach()
  file(STRINGS ${PR_CUDA_INCLUDE}/cuda_runtime_api.h version
    REGEX "^#define[ ]+CUDART_VERSION[ ]+[0-9]+")
  string(REGEX MATCH "[0-9]+" version "${version}")
  math(EXPR cuda_major "${version} / 1000")
  math(EXPR cuda_minor "${version} % 1000 / 10")
  set(cuda_version ${cuda_major}.${cuda_minor})

  # No unwinding, no guards of statics: then nothing of libstdc++ is left to link.
  set(host -fPIC,-fvisibility=hidden,-fno-threadsafe-statics,-fno-exceptions,-fno-rtti)
  file(GLOB cuda_kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
  set(cuda_objects "")
  foreach(source ${cuda_kernels})
    get_filename_component(name ${source} NAME_WE)
    set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
    add_custom_command(OUTPUT ${object} DEPENDS ${source} DEPFILE ${object}.d VERBATIM
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/cuda
      COMMAND ${CMAKE_C_COMPILER_LAUNCHER} ${PR_NVCC} -O3 -std=c++17 -I${CMAKE_SOURCE_DIR}
        -Xcompiler=${host} ${generate} -MD -MF ${object}.d -c ${source} -o ${object}
      COMMENT "CUDA kernels ${name}.cu for${cuda_names}")
    list(APPEND cuda_objects ${object})
  endforeach()

  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.c
    ${CMAKE_SOURCE_DIR}/worker/cuda/*.c)
  add_library(poolrank_cuda MODULE ${sources} ${cuda_objects})
  set_source_files_properties(${cuda_objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  set(exports ${CMAKE_SOURCE_DIR}/cmake/libpoolrank-cuda.map)
  set_target_properties(poolrank_cuda PROPERTIES
    PREFIX lib OUTPUT_NAME poolrank-cuda LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}
    LINKER_LANGUAGE C LINK_DEPENDS ${exports} INSTALL_RPATH_USE_LINK_PATH ON)
  target_include_directories(poolrank_cuda PRIVATE ${CMAKE_SOURCE_DIR})
  target_include_directories(poolrank_cuda SYSTEM PRIVATE ${PR_CUDA_INCLUDE} ${PR_NCCL_INCLUDE})
  target_compile_definitions(poolrank_cuda PRIVATE
    PR_CUDA_DESCRIPTION="CUDA ${cuda_version},${cuda_names}")
  # The static runtime where there is one: it asks for the driver when it is first used.
  if(PR_CUDA_cudart_static)
    set(runtime ${PR_CUDA_cudart_static} rt ${CMAKE_DL_LIBS})
  else()
    set(runtime ${PR_CUDA_cudart} ${CMAKE_DL_LIBS})
  endif()
  target_link_libraries(poolrank_cuda PRIVATE -Wl,--as-needed pr_flags pr_base ${runtime}
    ${PR_CUDA_cublasLt} ${PR_CUDA_nccl})
  target_link_options(poolrank_cuda PRIVATE "-Wl,--version-script=${exports}" -Wl,-z,defs)
  install(TARGETS poolrank_cuda LIBRARY DESTINATION lib/poolrank)
  message(STATUS "CUDA plug-in: CUDA ${cuda_version},${cuda_names}")
  if(POOLRANK_TESTS)
    add_subdirectory(tests/cuda)
  endif()
endif()

# ---- tests on the simulated device ----
if(NOT POOLRANK_TESTS)
  return()
endif()
if(NOT PR_CUDA_INCLUDE OR NOT CMAKE_CXX_COMPILER)
  message(STATUS "Simulated CUDA device: left out (needs the toolkit's headers and a C++ compiler)")
  return()
endif()
enable_language(CXX)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g")
add_subdirectory(tests/simcuda)

if(NOT POOLRANK_SANITIZE STREQUAL "")
  return()
endif()
find_package(Python3 COMPONENTS Interpreter QUIET)
if(PR_NVCC AND Python3_FOUND)
  set(registers ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/simcuda/registers.py
    --nvcc ${PR_NVCC} --source ${CMAKE_SOURCE_DIR} --work ${CMAKE_BINARY_DIR}/cuda)
  # All that the table has, whatever is built.
  add_test(NAME simcuda.registers COMMAND ${registers} --check --architectures "80;90;100;120")
  set_tests_properties(simcuda.registers PROPERTIES LABELS simcuda TIMEOUT 600 COST 300
    PROCESSORS 2)
endif()
