# Compiler and linker flags of every target.
add_library(pr_flags INTERFACE)
target_compile_options(pr_flags INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2
  -Wno-format-nonliteral -fno-strict-aliasing -ffp-contract=off
  -fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=)
# Messages are cut at their bound on purpose.
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  target_compile_options(pr_flags INTERFACE -Wno-format-truncation)
endif()
target_compile_definitions(pr_flags INTERFACE _POSIX_C_SOURCE=200809L)
if(POOLRANK_SANITIZE STREQUAL "address")
  target_compile_options(pr_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(pr_flags INTERFACE -fsanitize=address,undefined)
elseif(POOLRANK_SANITIZE STREQUAL "thread")
  target_compile_options(pr_flags INTERFACE -fsanitize=thread)
  target_link_options(pr_flags INTERFACE -fsanitize=thread)
elseif(NOT POOLRANK_SANITIZE STREQUAL "")
  message(FATAL_ERROR "POOLRANK_SANITIZE: found ${POOLRANK_SANITIZE}, expected address or thread")
endif()
