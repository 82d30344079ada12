# A cross-build for arm64 on Debian: its compiler and its libraries beside this machine's own, and
# qemu-user to run what was built (make test-arm64 installs all three).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig)
# Debian's libdnnl-dev cannot be installed for two architectures at once: this machine's headers, and
# the other's library without its development link.
set(DNNL_LIBRARY /usr/lib/aarch64-linux-gnu/libdnnl.so.2 CACHE FILEPATH "oneDNN for arm64")
set(DNNL_INCLUDE /usr/include CACHE PATH "oneDNN's headers")
