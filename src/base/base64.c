#include "base/base64.h"

#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Six bits of a character, or -1. */
static int bits_of(char c) {
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

bool sp_base64_decode(const char *text, size_t n, sp_str *out) {
    if (n % 4 != 0) {
        return false;
    }
    for (size_t i = 0; i < n; i += 4) {
        bool last = i + 4 == n;
        int padding = !last ? 0 : text[i + 3] != '=' ? 0 : text[i + 2] != '=' ? 1 : 2;
        unsigned group = 0;
        for (int k = 0; k < 4; k++) {
            int bits = k < 4 - padding ? bits_of(text[i + (size_t)k]) : 0;
            if (bits < 0) {
                return false;
            }
            group = group << 6 | (unsigned)bits;
        }
        for (int k = 0; k < 3 - padding; k++) {
            sp_str_putc(out, (char)(unsigned char)(group >> (16 - 8 * k)));
        }
    }
    return true;
}

void sp_base64_encode(const char *bytes, size_t n, sp_str *out) {
    for (size_t i = 0; i < n; i += 3) {
        const size_t count = n - i < 3 ? n - i : 3;
        unsigned group = 0;
        for (size_t k = 0; k < 3; k++) {
            group = group << 8 | (k < count ? (unsigned char)bytes[i + k] : 0U);
        }
        for (size_t k = 0; k < 4; k++) {
            sp_str_putc(out, k <= count ? alphabet[group >> (18 - 6 * k) & 63U] : '=');
        }
    }
}
