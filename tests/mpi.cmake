# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# Tests of MPI on device memory, included by CMakeLists.txt: one program, built with each
# MPI that is there.
find_package(nlohmann_json 3.10 REQUIRED)
include(../cmake/Mpi.cmake)

foreach(mpi mpich openmpi)
  if(${mpi}_FOUND)
    umem_pfn_mpi_program(pfn-mpi-test-${mpi} ${mpi} mpi/collectives.cpp mpi/datatypes.cpp
      mpi/main.cpp mpi/one_sided.cpp mpi/point_to_point.cpp mpi/reuse.cpp mpi/revoked.cpp
      mpi/world.cpp)
    target_include_directories(pfn-mpi-test-${mpi} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
    target_link_libraries(pfn-mpi-test-${mpi} PRIVATE nlohmann_json::nlohmann_json)
  endif()
endforeach()

# umem_pfn_mpi_test(NAME MPI LABELS [OPTION...] SUBJECT...): OPTIONs of guest-mpiexec.
function(umem_pfn_mpi_test name mpi labels)
  set(options ${ARGN})
  list(FILTER options INCLUDE REGEX "^--")
  set(subjects ${ARGN})
  list(FILTER subjects EXCLUDE REGEX "^--")
  if(${mpi}_FOUND)
    add_test(NAME ${name} COMMAND "${PROJECT_SOURCE_DIR}/lab.d/guest-bin/guest-mpiexec" ${options}
             $<TARGET_FILE:pfn-mpi-test-${mpi}> ${subjects})
  else()
    add_test(NAME ${name} COMMAND "${CMAKE_COMMAND}" -E echo "${mpi} is not installed")
    set_tests_properties(${name} PROPERTIES SKIP_REGULAR_EXPRESSION "is not installed")
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${labels}" TIMEOUT 900 RUN_SERIAL TRUE)
endfunction()

# The kernel's part in it is the same with each MPI, so one of them in all lanes is enough.
umem_pfn_mpi_test(mpi.Mpich mpich guest
                  point-to-point zero-copy collectives datatypes one-sided reuse revoked-idle)
umem_pfn_mpi_test(mpi.OpenMpi openmpi "guest;once" --openmpi zero-copy one-sided reuse
                  revoked-idle)
umem_pfn_mpi_test(mpi.OpenMpiOverLibfabric openmpi "guest;once" --libfabric zero-copy reuse
                  revoked-idle)
# Nothing is stale that was not kept.
umem_pfn_mpi_test(mpi.WithoutRegistrationCache mpich "guest;once" unseen-reuse)
set_tests_properties(mpi.WithoutRegistrationCache PROPERTIES ENVIRONMENT UCX_RCACHE_ENABLE=n)

# The exporter takes back what ranks exchange.
if(mpich_FOUND)
  add_test(NAME mpi.Revoked COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/mpi/revoked"
           "${PROJECT_SOURCE_DIR}/lab.d/guest-bin/guest-mpiexec" $<TARGET_FILE:pfn-mpi-test-mpich>)
  set_tests_properties(mpi.Revoked PROPERTIES LABELS "guest;once" TIMEOUT 800 RUN_SERIAL TRUE)
endif()
