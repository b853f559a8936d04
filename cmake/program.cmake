# The program, the shared library, and what is installed with them.
#
#   build/poolrank            the command line
#   build/libpoolrank.so.0    the C library: include/poolrank/engine.h and nothing else is exported
#   build/share/              man page and shell completions, made by the program from its tables
include(GNUInstallDirs)

# A version script can only export what is not hidden; it hides everything else of the library.
set(exporting pr_options pr_engine)
set_property(TARGET ${exporting} PROPERTY C_VISIBILITY_PRESET default)

add_executable(poolrank program/main.c)
target_link_libraries(poolrank PRIVATE pr_flags pr_program)

# The name "poolrank" is the program's; the library's file is called libpoolrank all the same.
set(exports ${CMAKE_SOURCE_DIR}/cmake/libpoolrank.map)
# CMake 3.25 wants a source of its own for it; everything in it comes from the static libraries.
file(WRITE ${CMAKE_BINARY_DIR}/libpoolrank.c "typedef int pr_library_has_no_code_of_its_own;\n")
add_library(libpoolrank SHARED ${CMAKE_BINARY_DIR}/libpoolrank.c)
set_target_properties(libpoolrank PROPERTIES
  OUTPUT_NAME poolrank VERSION ${PROJECT_VERSION} SOVERSION 0 LINKER_LANGUAGE C
  LINK_DEPENDS ${exports})
target_link_libraries(libpoolrank PRIVATE
  -Wl,--whole-archive $<TARGET_FILE:pr_options> $<TARGET_FILE:pr_engine> -Wl,--no-whole-archive
  pr_flags pr_coordinator -Wl,--as-needed)
# As an option it is quoted: the path may have blanks in it.
target_link_options(libpoolrank PRIVATE "-Wl,--version-script=${exports}")
if(POOLRANK_SANITIZE STREQUAL "")
  target_link_options(libpoolrank PRIVATE -Wl,--no-undefined)
endif()
add_dependencies(libpoolrank ${exporting})

# ---- texts made from the tables ----
set(share ${CMAKE_BINARY_DIR}/share)
set(generated)
function(pr_generated kind file)
  get_filename_component(folder ${share}/${file} DIRECTORY)
  add_custom_command(OUTPUT ${share}/${file}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
    COMMAND poolrank generate ${kind} > ${share}/${file}
    DEPENDS poolrank VERBATIM)
  set(generated ${generated} ${share}/${file} PARENT_SCOPE)
endfunction()
pr_generated(man man/man1/poolrank.1)
pr_generated(completion-bash bash-completion/completions/poolrank)
pr_generated(completion-zsh zsh/site-functions/_poolrank)
pr_generated(engine-arguments engine-arguments.md)
add_custom_target(poolrank_share ALL DEPENDS ${generated})

# ---- installed tree: relocatable, so that every path in it is relative ----
set_target_properties(poolrank PROPERTIES INSTALL_RPATH "$ORIGIN/../lib")
set(CMAKE_INSTALL_LIBDIR lib)
install(TARGETS poolrank RUNTIME DESTINATION bin)
install(TARGETS libpoolrank LIBRARY DESTINATION lib)
install(FILES include/poolrank/engine.h include/poolrank/types.h DESTINATION include/poolrank)
configure_file(cmake/poolrank.pc.in ${CMAKE_BINARY_DIR}/poolrank.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/poolrank.pc DESTINATION lib/pkgconfig)
install(FILES ${share}/man/man1/poolrank.1 DESTINATION share/man/man1)
install(FILES ${share}/bash-completion/completions/poolrank
  DESTINATION share/bash-completion/completions)
install(FILES ${share}/zsh/site-functions/_poolrank DESTINATION share/zsh/site-functions)
