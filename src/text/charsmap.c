#include "text/charsmap.h"

#include <string.h>
#include <utf8proc.h>

static uint32_t read_u32(const char *bytes) {
    const unsigned char *b = (const unsigned char *)bytes;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

spar_status sp_charsmap_read(const sp_charsmap **out, const char *bytes, size_t n, sp_arena *arena,
                             const char *where, spar_error *err) {
    size_t size = n >= 4 ? read_u32(bytes) : 0;
    if (n < 8 || size % 4 != 0 || size < 4 || size >= n - 4 || bytes[n - 1] != '\0') {
        return spar_fail(
            err, SPAR_FORMAT,
            "%s: precompiled_charsmap: expected a trie and texts, found %zu bytes that "
            "do not hold them",
            where, n);
    }
    sp_charsmap *map = sp_arena_alloc(arena, sizeof *map);
    uint32_t *units = sp_arena_alloc(arena, size);
    char *texts = sp_arena_alloc(arena, n - 4 - size);
    if (!map || !units || !texts) {
        return spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", where);
    }
    for (size_t i = 0; i < size / 4; i++) {
        units[i] = read_u32(bytes + 4 + 4 * i);
    }
    memcpy(texts, bytes + 4 + size, n - 4 - size);
    *map = (sp_charsmap){units, size / 4, texts, n - 4 - size};
    *out = map;
    return SPAR_OK;
}

/* ---- a unit of the trie ---- */

/* From a node to the place of its children, which a byte is added to by exclusive or. */
static uint32_t offset_of(uint32_t unit) {
    return (unit >> 10) << ((unit & 1U << 9) >> 6);
}

static uint32_t label_of(uint32_t unit) {
    return unit & (1U << 31 | 0xFFU);
}

static bool has_leaf(uint32_t unit) {
    return (unit >> 8 & 1U) != 0;
}

/* What the shortest key that begins the text becomes, or NULL. The reference takes the shortest,
 * and it stands for the whole of the text: what comes after it is lost. */
static const char *find(const sp_charsmap *map, const char *text, size_t n) {
    size_t at = offset_of(map->units[0]);
    for (size_t i = 0; i < n && text[i]; i++) {
        const unsigned char byte = (unsigned char)text[i];
        at ^= byte;
        if (at >= map->n_units || label_of(map->units[at]) != byte) {
            return NULL;
        }
        const uint32_t unit = map->units[at];
        at ^= offset_of(unit);
        if (has_leaf(unit)) {
            const size_t value = at < map->n_units ? map->units[at] & ~(1U << 31) : map->n_texts;
            return value < map->n_texts ? map->texts + value : NULL;
        }
    }
    return NULL;
}

static size_t next_grapheme(const char *text, size_t n) {
    utf8proc_int32_t state = 0;
    unsigned before, c;
    size_t at = sp_utf8_decode(text, n, &before);
    while (at < n) {
        size_t used = sp_utf8_decode(text + at, n - at, &c);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)c,
                                             &state)) {
            break;
        }
        before = c;
        at += used;
    }
    return at;
}

enum { SHORT_GRAPHEME = 6 }; /* bytes; longer ones are taken by characters */

spar_status sp_charsmap_apply(const sp_charsmap *map, const char *text, size_t n, sp_str *out,
                              sp_edits *edits, spar_error *err) {
    for (size_t at = 0, length; at < n; at += length) {
        length = next_grapheme(text + at, n - at);
        const char *mapped = length < SHORT_GRAPHEME ? find(map, text + at, length) : NULL;
        if (mapped) {
            sp_edits_add(edits, at, length, out->len, strlen(mapped));
            sp_str_puts(out, mapped);
            continue;
        }
        for (size_t i = 0, used; i < length; i += used) {
            unsigned c;
            used = sp_utf8_decode(text + at + i, length - i, &c);
            mapped = find(map, text + at + i, used);
            if (mapped) {
                sp_edits_add(edits, at + i, used, out->len, strlen(mapped));
                sp_str_puts(out, mapped);
            } else {
                sp_str_append(out, text + at + i, used);
            }
        }
    }
    return sp_str_status(out, err);
}
