# spar_embed(OUTPUT SYMBOL INPUT): a C file that defines `const char SYMBOL[]`, INPUT's bytes and a
# final NUL. Made anew when INPUT changes.
function(spar_embed output symbol input)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${input})
  file(READ ${input} bytes HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(................................................................................)"
         "\\1\n" bytes "${bytes}")
  file(CONFIGURE OUTPUT ${output}
       CONTENT "extern const char ${symbol}[];\nconst char ${symbol}[] = {${bytes}0x00};\n")
endfunction()
