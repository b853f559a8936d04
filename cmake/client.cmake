# The C client library, for programs that ask a server: build/libpoolrank-client.so.0, which exports
# include/poolrank/client.h and nothing else, and needs nothing of the engine.
set_property(TARGET pr_client PROPERTY C_VISIBILITY_PRESET default)
set(exports ${CMAKE_SOURCE_DIR}/cmake/libpoolrank-client.map)
file(WRITE ${CMAKE_BINARY_DIR}/libpoolrank-client.c
  "typedef int pr_client_library_has_no_code_of_its_own;\n")
add_library(libpoolrank_client SHARED ${CMAKE_BINARY_DIR}/libpoolrank-client.c)
set_target_properties(libpoolrank_client PROPERTIES
  PREFIX "" OUTPUT_NAME libpoolrank-client VERSION ${PROJECT_VERSION} SOVERSION 0
  LINKER_LANGUAGE C LINK_DEPENDS ${exports} INSTALL_RPATH "")
target_link_libraries(libpoolrank_client PRIVATE -Wl,--as-needed
  -Wl,--whole-archive $<TARGET_FILE:pr_client> -Wl,--no-whole-archive pr_flags pr_client)
# As an option it is quoted: the path may have blanks in it.
target_link_options(libpoolrank_client PRIVATE "-Wl,--version-script=${exports}" -Wl,--gc-sections)
if(POOLRANK_SANITIZE STREQUAL "")
  target_link_options(libpoolrank_client PRIVATE -Wl,--no-undefined)
endif()
add_dependencies(libpoolrank_client pr_client)

install(TARGETS libpoolrank_client LIBRARY DESTINATION lib)
install(FILES include/poolrank/client.h DESTINATION include/poolrank)
configure_file(cmake/poolrank-client.pc.in ${CMAKE_BINARY_DIR}/poolrank-client.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/poolrank-client.pc DESTINATION lib/pkgconfig)
