# Short names for the usual steps. The build itself is CMake: see CMakePresets.json.
JOBS ?= 2
AS_ROOT = $(shell [ "$$(id -u)" -eq 0 ] || echo sudo)
ARM64_LIBRARIES = $(addsuffix :arm64,libdnnl2 libjansson-dev libpcre2-dev libutf8proc-dev \
  libsqlite3-dev libyaml-dev libcurl4-openssl-dev libssl-dev libcmocka-dev \
  zlib1g-dev libzstd-dev libsnappy-dev)
SOURCES = $$(find src include tests -name '*.c' -o -name '*.h')

.PHONY: help deps model quickstart build test test-full test-arm64 bench format lint clean

help:
	@echo "make quickstart  install what is missing, build, fetch a small model, play one short run"
	@echo "make build       build/spar (installs the libraries it needs, on Debian and Ubuntu)"
	@echo "make test        build, then the tests that take seconds"
	@echo "make test-full   build, then all tests"
	@echo "make test-arm64  cross-build for arm64 and run its unit tests under qemu-user (Debian)"
	@echo "make bench       measure this machine"
	@echo "make format      clang-format every source file"
	@echo "make lint        formatting, clang-tidy, and the arrows between folders"
	@echo "make clean       remove what was built"

deps:
	@tools/install_deps

# The tests on the quick-start model skip themselves, saying so, where it cannot be fetched.
model: deps
	@tools/install_deps python3 python3-pip
	@tools/fetch_model >/dev/null || echo "the tests on the quick-start model will be skipped" >&2

quickstart: build
	@tools/install_deps python3 python3-pip
	model=$$(tools/fetch_model) && \
	  ./build/spar play recipes/quickstart.yaml -m "$$model" --run runs/quickstart --resume

build: deps build/build.ninja
	cmake --build build

build/build.ninja: | deps
	cmake --preset release

test: build model
	ctest --test-dir build --output-on-failure --no-tests=error -j $(JOBS) -LE long

test-full: build model
	ctest --test-dir build --output-on-failure --no-tests=error -j $(JOBS)

# qemu-user is slow: without the tests on real models, and the one that measures the machine.
test-arm64:
	@dpkg --print-foreign-architectures | grep -q arm64 || \
	  { $(AS_ROOT) dpkg --add-architecture arm64 && $(AS_ROOT) apt-get update -q; }
	@tools/install_deps gcc-aarch64-linux-gnu qemu-user $(ARM64_LIBRARIES)
	cmake --preset arm64
	cmake --build build-arm64
	SPAR_SHARED=/nonexistent XDG_CACHE_HOME=/nonexistent ctest --test-dir build-arm64 \
	  --output-on-failure --no-tests=error -j $(JOBS) -R '^unit\.' -E test_probe

bench: build model
	./build/spar bench

format:
	@tools/install_deps clang-format
	clang-format -i $(SOURCES)

lint: build
	@tools/install_deps clang-format clang-tidy
	clang-format --dry-run -Werror $(SOURCES)
	sh tests/check_arrows.sh .
	clang-tidy -p build --quiet $$(find src -name '*.c' ! -name '*_simd.c')

clean:
	rm -rf build build-debug build-asan build-tsan build-arm64
