# The part that is linked with Open MPI, a plug-in that only `poolrank worker` loads, and only for
# groups of several ranks: build/libpoolrank-mpi.so, installed as lib/poolrank/libpoolrank-mpi.so.
if(NOT POOLRANK_MPI)
  return()
endif()
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/worker/mpi/*.c)
add_library(poolrank_mpi MODULE ${sources})
set(exports ${CMAKE_SOURCE_DIR}/cmake/libpoolrank-mpi.map)
set_target_properties(poolrank_mpi PROPERTIES
  PREFIX lib OUTPUT_NAME poolrank-mpi LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}
  LINK_DEPENDS ${exports} INSTALL_RPATH "")
target_link_libraries(poolrank_mpi PRIVATE -Wl,--as-needed pr_flags pr_worker PkgConfig::MPI)
# As an option it is quoted: the path may have blanks in it.
target_link_options(poolrank_mpi PRIVATE "-Wl,--version-script=${exports}")
if(POOLRANK_SANITIZE STREQUAL "")
  target_link_options(poolrank_mpi PRIVATE -Wl,--no-undefined)
endif()
install(TARGETS poolrank_mpi LIBRARY DESTINATION lib/poolrank)
