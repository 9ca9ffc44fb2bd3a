# Toolchain of `nox -s aarch64`, which unpacks Debian's Python for arm64 in build/aarch64.
cmake_path(SET _root NORMALIZE ${CMAKE_CURRENT_LIST_DIR}/../build/aarch64)
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# The headers of Debian's Python include <aarch64-linux-gnu/python3.x/pyconfig.h>.
set(CMAKE_CXX_FLAGS_INIT "-idirafter ${_root}/usr/include")
# CMake runs this Python under QEMU to find its headers, if policy CMP0190 is NEW.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L ${_root})
set(Python_EXECUTABLE ${_root}/usr/bin/python3)
set(PYBIND11_USE_CROSSCOMPILING ON)
