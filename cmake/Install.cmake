install(TARGETS spar spar_lib)
install(DIRECTORY prompts DESTINATION ${CMAKE_INSTALL_DATADIR}/spar)
install(DIRECTORY include/spar DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

# A static library's users link what it uses; a shared one brings it along.
# The prefix is found from where spar.pc lies, so `cmake --install --prefix` may move it.
file(RELATIVE_PATH SPAR_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
set(SPAR_PC_PACKAGES "jansson yaml-0.1 libpcre2-8 libutf8proc sqlite3")
if(CURL_FOUND)
  string(APPEND SPAR_PC_PACKAGES " libcurl libcrypto")
endif()
foreach(package ${SPAR_COMPRESSION_PACKAGES})
  string(APPEND SPAR_PC_PACKAGES " ${package}")
endforeach()
set(SPAR_PC_LIBRARIES "-ldnnl -lpthread -lm")
get_target_property(spar_library_type spar_lib TYPE)
if(spar_library_type STREQUAL "SHARED_LIBRARY")
  set(SPAR_PC_PRIVATE ".private")
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/spar.pc.in ${PROJECT_BINARY_DIR}/spar.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/spar.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# Man pages and completion come from the option tables, so the program itself writes them.
set(manual_folder ${PROJECT_BINARY_DIR}/manual)
add_custom_command(
  OUTPUT ${manual_folder}/completion/spar
  COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:spar>
          -DEMULATOR=${CMAKE_CROSSCOMPILING_EMULATOR} -DFOLDER=${manual_folder}
          -P ${CMAKE_CURRENT_LIST_DIR}/Manual.cmake
  DEPENDS spar ${CMAKE_CURRENT_LIST_DIR}/Manual.cmake
  COMMENT "Writing man pages and shell completion")
add_custom_target(manual ALL DEPENDS ${manual_folder}/completion/spar)
install(DIRECTORY ${manual_folder}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
install(FILES ${manual_folder}/completion/spar
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
