/* Base64 (RFC 4648, section 4): standard alphabet, padded. */
#ifndef SP_BASE_BASE64_H
#define SP_BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/* Append the bytes that n characters stand for. False: not base64; out may hold a part. */
bool sp_base64_decode(const char *text, size_t n, sp_str *out);
/* Append the characters that stand for n bytes. */
void sp_base64_encode(const char *bytes, size_t n, sp_str *out);

#endif
