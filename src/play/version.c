#define PCRE2_CODE_UNIT_WIDTH 8
#include "spar/version.h"

#include <jansson.h>
#include <oneapi/dnnl/dnnl.h>
#include <pcre2.h>
#include <sqlite3.h>
#include <unistd.h>
#include <utf8proc.h>
#include <yaml.h>
#ifdef SPAR_HAVE_CURL
#include <curl/curl.h>
#endif

#include "backend/backend.h"
#include "io/compression.h"

#ifndef SPAR_VERSION_TEXT
#define SPAR_VERSION_TEXT "0.0.0"
#endif

const char *spar_version(void) {
    return SPAR_VERSION_TEXT;
}

/* clang names itself in __VERSION__, gcc does not. */
#if defined(__clang__)
static const char compiler[] = "";
#else
static const char compiler[] = "gcc ";
#endif

static const char *build_kind(void) {
#if defined(__SANITIZE_ADDRESS__)
    return "with address sanitizer";
#elif defined(NDEBUG)
    return "release";
#else
    return "with assertions";
#endif
}

void spar_version_write(FILE *out) {
    const dnnl_version_t *dnnl = dnnl_version();
    char pcre2[64];
    pcre2_config(PCRE2_CONFIG_VERSION, pcre2); /* at most 24 characters */
    fprintf(out, "spar %s\n", spar_version());
    fprintf(out, "build: %s, compiler %s%s\n", build_kind(), compiler, __VERSION__);
    fprintf(
        out,
        "libraries: oneDNN %d.%d.%d, SQLite %s, jansson %s, PCRE2 %s, utf8proc %s, libyaml %s\n",
        dnnl->major, dnnl->minor, dnnl->patch, sqlite3_libversion(), jansson_version_str(), pcre2,
        utf8proc_version(), yaml_get_version_string());
#ifdef SPAR_HAVE_CURL
    fprintf(out, "options: HTTP yes (libcurl %s), CUDA no, MPI no, server no\n",
            curl_version_info(CURLVERSION_NOW)->version);
#else
    fprintf(out, "options: HTTP no, CUDA no, MPI no, server no\n");
#endif
    fprintf(out, "compressed data: gzip %s, zstd %s, snappy %s\n",
            sp_compression_library(SP_COMPRESSION_GZIP),
            sp_compression_library(SP_COMPRESSION_ZSTD),
            sp_compression_library(SP_COMPRESSION_SNAPPY));
#if defined(__x86_64__)
    static const char *const words[] = {"no", "yes"};
    fprintf(out, "processor: %ld cores, AVX2 %s, AVX-512 %s, bf16 products %s\n",
            sysconf(_SC_NPROCESSORS_ONLN), words[__builtin_cpu_supports("avx2") != 0],
            words[__builtin_cpu_supports("avx512f") != 0], words[sp_backend_has_bf16()]);
#else
    fprintf(out, "processor: %ld cores\n", sysconf(_SC_NPROCESSORS_ONLN));
#endif
}
