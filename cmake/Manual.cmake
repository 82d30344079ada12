# cmake -DPROGRAM=spar [-DEMULATOR=qemu-...] -DFOLDER=dir -P Manual.cmake: man1/*.1 and completion/spar, as the program
# writes them. The commands are those that the completion offers.
function(write_output file)
  execute_process(COMMAND ${EMULATOR} ${PROGRAM} ${ARGN} OUTPUT_VARIABLE text RESULT_VARIABLE result
                  ERROR_VARIABLE message)
  if(NOT result EQUAL 0 OR text STREQUAL "")
    list(JOIN ARGN " " arguments)
    message(FATAL_ERROR "spar ${arguments}: left with ${result}: ${message}")
  endif()
  file(WRITE ${FOLDER}/${file} "${text}")
endfunction()

file(REMOVE_RECURSE ${FOLDER})
write_output(completion/spar.new --completion bash)
file(STRINGS ${FOLDER}/completion/spar.new line REGEX "words='--help --version ")
if(NOT line MATCHES "--version ([^']*)'")
  message(FATAL_ERROR "spar --completion bash: expected the list of commands, found none")
endif()
string(REPLACE " " ";" commands "${CMAKE_MATCH_1}")
write_output(man1/spar.1 --man spar)
foreach(command ${commands})
  write_output(man1/spar-${command}.1 --man ${command})
endforeach()
# Last, so that the build tries again after a failure above.
file(RENAME ${FOLDER}/completion/spar.new ${FOLDER}/completion/spar)
