# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# Tests of the tools, included by CMakeLists.txt.
set(tools_dir "${PROJECT_SOURCE_DIR}/tools")

foreach(tool info sanity buf installed)
  add_test(NAME tools.${tool} COMMAND "${CMAKE_COMMAND}" -E env "UMEM_PFN_TOOLS=${tools_dir}"
           "PYTHONDONTWRITEBYTECODE=1" "${CMAKE_CURRENT_SOURCE_DIR}/tools/test_${tool}.py")
endforeach()
add_test(NAME tools.completion COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/tools/completion"
         "${tools_dir}/completions")
set_tests_properties(tools.sanity PROPERTIES LABELS guest)
# What they are about is not the kernel, and they start many programs, which takes long
# under emulation.
set_tests_properties(tools.info tools.buf tools.installed tools.completion
                     PROPERTIES LABELS "guest;once")
set_tests_properties(tools.info tools.sanity tools.buf tools.installed tools.completion
                     PROPERTIES TIMEOUT 900 RUN_SERIAL TRUE)

add_test(NAME tools.man COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/tools/man" "${tools_dir}"
         $<TARGET_FILE:pfn-info> $<TARGET_FILE:pfn-sanity> $<TARGET_FILE:pfn-buf>)
set_tests_properties(tools.man PROPERTIES LABELS host TIMEOUT 300)
