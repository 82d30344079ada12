/* Where the rows are that a short convolution reads. */
#ifndef SP_BACKEND_CPU_CONV_ROWS_H
#define SP_BACKEND_CPU_CONV_ROWS_H

#include "backend/backend.h"

/* The row of u that is `back` positions before query i of a segment; -1 where none is. */
static inline int64_t sp_conv_row(const sp_short_conv *a, int segment, int64_t i, int64_t back) {
    const sp_segment *s = &a->segments[segment];
    int64_t key = s->kv_len - s->q_len + i - back;
    while (key < 0 && s->parent >= 0) {
        s = &a->segments[s->parent];
        key += s->kv_len;
    }
    return key < 0 ? -1 : s->kv_start + key;
}

#endif
