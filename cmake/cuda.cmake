# CUDA, where its toolkit is found. Until the backend is there: the tests of the kernels on the
# simulated device (tests/simcuda; needs the toolkit's headers and a C++ compiler), and the target
# cuda_objects, which compiles them with nvcc for the architectures of POOLRANK_CUDA_ARCHITECTURES.
if(NOT POOLRANK_TESTS OR POOLRANK_FUZZ OR NOT POOLRANK_SANITIZE STREQUAL "")
  return()
endif()
set(POOLRANK_CUDA_ARCHITECTURES "80;90" CACHE STRING "Compute capabilities of the CUDA kernels")
find_path(PR_CUDA_INCLUDE cuda_runtime_api.h HINTS $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda
  PATH_SUFFIXES include)
mark_as_advanced(PR_CUDA_INCLUDE)
include(CheckLanguage)
check_language(CXX)
if(NOT PR_CUDA_INCLUDE OR NOT CMAKE_CXX_COMPILER)
  message(STATUS "CUDA kernels: left out (needs the headers of the CUDA toolkit and a C++ compiler)")
  return()
endif()
enable_language(CXX)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g")
add_subdirectory(tests/simcuda)

find_program(PR_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin /usr/local/cuda/bin)
mark_as_advanced(PR_NVCC)
if(NOT PR_NVCC)
  message(STATUS "CUDA kernels: nvcc is not found, only the simulated device builds them")
  return()
endif()
find_package(Python3 COMPONENTS Interpreter QUIET)
if(Python3_FOUND)
  set(registers ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/simcuda/registers.py
    --nvcc ${PR_NVCC} --source ${CMAKE_SOURCE_DIR} --work ${CMAKE_BINARY_DIR}/cuda)
  add_custom_target(cuda_objects COMMAND ${registers} --architectures "${POOLRANK_CUDA_ARCHITECTURES}"
    VERBATIM USES_TERMINAL)
  add_test(NAME simcuda.registers COMMAND ${registers} --check
    --architectures "${POOLRANK_CUDA_ARCHITECTURES}")
  set_tests_properties(simcuda.registers PROPERTIES LABELS simcuda TIMEOUT 300)
endif()
