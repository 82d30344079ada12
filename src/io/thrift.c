#include "io/thrift.h"

enum {
    TYPE_BYTE = 3,
    TYPE_INT64 = 6,
    TYPE_DOUBLE = 7,
    TYPE_LIST = 9,
    TYPE_SET = 10,
    TYPE_MAP = 11
};
enum { DEEPEST = 32 };

static size_t left(const sp_thrift *t) {
    return t->failed ? 0 : (size_t)(t->end - t->at);
}

static unsigned take(sp_thrift *t) {
    if (left(t) == 0) {
        t->failed = true;
        return 0;
    }
    return *t->at++;
}

uint64_t sp_thrift_unsigned(sp_thrift *t) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const unsigned byte = take(t);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            return t->failed ? 0 : value;
        }
    }
    t->failed = true;
    return 0;
}

int64_t sp_thrift_int(sp_thrift *t) {
    const uint64_t n = sp_thrift_unsigned(t);
    return (int64_t)((n >> 1) ^ (~(n & 1) + 1));
}

bool sp_thrift_field(sp_thrift *t, int *id, int *type) {
    const unsigned byte = take(t);
    const unsigned delta = byte >> 4;
    *type = (int)(byte & 0xf);
    if (t->failed || byte == 0) {
        return false;
    }
    const int64_t next = delta ? *id + (int64_t)delta : sp_thrift_int(t);
    t->failed = t->failed || next < 0 || next > INT16_MAX;
    *id = t->failed ? 0 : (int)next;
    return !t->failed;
}

const uint8_t *sp_thrift_bytes(sp_thrift *t, size_t *n) {
    const uint64_t length = sp_thrift_unsigned(t);
    const uint8_t *bytes = t->at;
    t->failed = t->failed || length > left(t);
    *n = t->failed ? 0 : (size_t)length;
    t->at += *n;
    return bytes;
}

size_t sp_thrift_list(sp_thrift *t, int *type) {
    const unsigned byte = take(t);
    const uint64_t n = byte >> 4 == 15 ? sp_thrift_unsigned(t) : byte >> 4;
    *type = (int)(byte & 0xf);
    t->failed = t->failed || n > left(t);
    return t->failed ? 0 : (size_t)n;
}

static void skip(sp_thrift *t, int type, int depth);

static void skip_list(sp_thrift *t, int depth) {
    int type;
    for (size_t n = sp_thrift_list(t, &type); n > 0 && !t->failed; n--) {
        /* Truth has a byte of its own within a list. */
        skip(t, type == SP_THRIFT_TRUE || type == SP_THRIFT_FALSE ? TYPE_BYTE : type, depth);
    }
}

static void skip_map(sp_thrift *t, int depth) {
    const uint64_t n = sp_thrift_unsigned(t);
    const unsigned types = n > 0 ? take(t) : 0;
    t->failed = t->failed || n > left(t);
    for (uint64_t i = 0; i < n && !t->failed; i++) {
        skip(t, (int)(types >> 4), depth);
        skip(t, (int)(types & 0xf), depth);
    }
}

static void skip(sp_thrift *t, int type, int depth) {
    size_t n = 0;
    int id = 0, field;
    if (depth > DEEPEST) {
        t->failed = true;
    } else if (type == TYPE_BYTE) {
        take(t);
    } else if (type > TYPE_BYTE && type <= TYPE_INT64) {
        sp_thrift_unsigned(t);
    } else if (type == TYPE_DOUBLE) {
        n = 8;
    } else if (type == SP_THRIFT_BINARY) {
        sp_thrift_bytes(t, &n);
        n = 0;
    } else if (type == TYPE_LIST || type == TYPE_SET) {
        skip_list(t, depth + 1);
    } else if (type == TYPE_MAP) {
        skip_map(t, depth + 1);
    } else if (type == SP_THRIFT_STRUCT) {
        while (sp_thrift_field(t, &id, &field)) {
            skip(t, field, depth + 1);
        }
    } else if (type != SP_THRIFT_TRUE && type != SP_THRIFT_FALSE) {
        t->failed = true;
    }
    t->failed = t->failed || n > left(t);
    t->at += t->failed ? 0 : n;
}

void sp_thrift_skip(sp_thrift *t, int type) {
    skip(t, type, 0);
}
