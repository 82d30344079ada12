/* Thrift's compact protocol, as far as Parquet's headers need it (the Apache Thrift specification,
 * "Thrift compact protocol encoding"). A reader stops at its first failure: `failed` is set, and
 * what it gives from then on is zero. */
#ifndef SP_IO_THRIFT_H
#define SP_IO_THRIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SP_THRIFT_TRUE = 1, SP_THRIFT_FALSE = 2, SP_THRIFT_BINARY = 8, SP_THRIFT_STRUCT = 12 };

typedef struct sp_thrift {
    const uint8_t *at, *end; /* borrowed */
    bool failed;
} sp_thrift;

/* The next field of a struct: *id, the last field's on entry (0 before the first), and *type; false
 * behind the last field and after a failure. Its value must be read or skipped. */
bool sp_thrift_field(sp_thrift *t, int *id, int *type);
uint64_t sp_thrift_unsigned(sp_thrift *t); /* a variable-length number */
int64_t sp_thrift_int(sp_thrift *t);       /* the same in zigzag */
const uint8_t *sp_thrift_bytes(sp_thrift *t, size_t *n);
/* The length of a list, at most one element a byte that is left, and the type of its elements. */
size_t sp_thrift_list(sp_thrift *t, int *type);
void sp_thrift_skip(sp_thrift *t, int type);

#endif
