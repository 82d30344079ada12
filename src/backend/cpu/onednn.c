#include "backend/cpu/onednn.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

#include "base/mem.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* Weak, so that it binds to whichever OpenMP runtime the library brought, and to none where the
 * library was built with other threads. */
extern void omp_set_num_threads(int n) __attribute__((weak));

void sp_onednn_single(void) {
    if (omp_set_num_threads != NULL) {
        omp_set_num_threads(1);
    }
}

void sp_onednn_cap(sp_isa isa) {
    static const dnnl_cpu_isa_t of[] = {
        [SP_ISA_BASE] = dnnl_cpu_isa_sse41,
        [SP_ISA_V3] = dnnl_cpu_isa_avx2,
        [SP_ISA_V4] = dnnl_cpu_isa_avx512_core,
        [SP_ISA_VNNI] = dnnl_cpu_isa_avx512_core_vnni,
        [SP_ISA_BF16] = dnnl_cpu_isa_avx512_core_bf16,
    };
    if (isa < SP_ISA_AMX) {
        (void)dnnl_set_max_cpu_isa(of[isa]); /* refused once the library is in use */
    }
}

int sp_onednn_sgemm(const sp_sgemm *g) {
    return (int)dnnl_sgemm(g->transpose_a ? 'T' : 'N', g->transpose_b ? 'T' : 'N', g->M, g->N, g->K,
                           1.0F, g->a, g->lda, g->b, g->ldb, g->accumulate ? 1.0F : 0.0F, g->c,
                           g->ldc);
}

int sp_onednn_int8(int64_t n, const uint8_t *a, const int8_t *b, int32_t *c) {
    const int32_t offset = 0;
    return (int)dnnl_gemm_u8s8s32('N', 'N', 'F', n, n, n, 1.0F, a, n, 0, b, n, 0, 0.0F, c, n,
                                  &offset);
}

spar_status sp_onednn_check(int code, const char *what, spar_error *err) {
    if (code != 0) {
        return spar_fail(err, SPAR_INTERNAL, "%s: oneDNN %s failed with status %d", what,
                         sp_onednn_version(), code);
    }
    return SPAR_OK;
}

const char *sp_onednn_version(void) {
    return TEXT(DNNL_VERSION_MAJOR) "." TEXT(DNNL_VERSION_MINOR) "." TEXT(DNNL_VERSION_PATCH);
}

/* How a matrix [K, N] lies in memory: strides of blocks, and the blocks from outermost to
 * innermost. */
enum { BLOCKS_MAX = 8 };
typedef struct blocking {
    bool known;
    int n;
    int64_t strides[2], sizes[BLOCKS_MAX], dims[BLOCKS_MAX];
} blocking;

static void fill_blocking(blocking *b, int n, const int64_t strides[], const int64_t sizes[],
                          const int64_t dims[]) {
    if (n > BLOCKS_MAX) {
        return;
    }
    b->known = true;
    b->n = n;
    for (int i = 0; i < 2; i++) {
        b->strides[i] = strides[i];
    }
    for (int i = 0; i < n; i++) {
        b->sizes[i] = sizes[i];
        b->dims[i] = dims[i];
    }
}

/* Version 3 made memory descriptors opaque and renamed what makes them. Below, a `layout` is a
 * descriptor of either kind, and `ARG` passes one. */
#if DNNL_VERSION_MAJOR >= 3
#define ARG(layout) (layout)

typedef dnnl_memory_desc_t layout;
typedef const_dnnl_memory_desc_t layout_view;

static dnnl_status_t layout_strided(layout *out, dnnl_data_type_t type, const dnnl_dims_t dims,
                                    const dnnl_dims_t strides) {
    return dnnl_memory_desc_create_with_strides(out, 2, dims, type, strides);
}

static dnnl_status_t layout_any(layout *out, dnnl_data_type_t type, const dnnl_dims_t dims) {
    return dnnl_memory_desc_create_with_tag(out, 2, dims, type, dnnl_format_tag_any);
}

static dnnl_status_t layout_copy(layout *out, layout_view from) {
    return dnnl_memory_desc_clone(out, from);
}

static void layout_free(layout *x) {
    if (*x != NULL) {
        dnnl_memory_desc_destroy(*x);
    }
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0F, 0, dnnl_data_type_undef);
}

static dnnl_status_t describe_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, layout a,
                                     layout b, layout c, dnnl_primitive_attr_t attr) {
    return dnnl_matmul_primitive_desc_create(out, engine, a, b, NULL, c, attr);
}

static blocking blocking_of(layout_view x) {
    blocking b = {0};
    int nblks = 0;
    const int64_t *strides = NULL, *blks = NULL, *idxs = NULL;
    const bool known =
        dnnl_memory_desc_query(x, dnnl_query_inner_nblks_s32, &nblks) == dnnl_success &&
        dnnl_memory_desc_query(x, dnnl_query_inner_blks, &blks) == dnnl_success &&
        dnnl_memory_desc_query(x, dnnl_query_inner_idxs, &idxs) == dnnl_success &&
        dnnl_memory_desc_query(x, dnnl_query_strides, &strides) == dnnl_success;
    if (known) {
        fill_blocking(&b, nblks, strides, blks, idxs);
    }
    return b;
}
#else
#define ARG(layout) (&(layout))

typedef dnnl_memory_desc_t layout;
typedef const dnnl_memory_desc_t *layout_view;

static dnnl_status_t layout_strided(layout *out, dnnl_data_type_t type, const dnnl_dims_t dims,
                                    const dnnl_dims_t strides) {
    return dnnl_memory_desc_init_by_strides(out, 2, dims, type, strides);
}

static dnnl_status_t layout_any(layout *out, dnnl_data_type_t type, const dnnl_dims_t dims) {
    return dnnl_memory_desc_init_by_tag(out, 2, dims, type, dnnl_format_tag_any);
}

static dnnl_status_t layout_copy(layout *out, layout_view from) {
    *out = *from;
    return dnnl_success;
}

static void layout_free(layout *x) {
    (void)x;
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0F);
}

static blocking blocking_of(layout_view x) {
    blocking b = {0};
    const dnnl_blocking_desc_t *d = &x->format_desc.blocking;
    if (x->format_kind == dnnl_blocked) {
        fill_blocking(&b, d->inner_nblks, d->strides, d->inner_blks, d->inner_idxs);
    }
    return b;
}

static dnnl_status_t describe_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, layout a,
                                     layout b, layout c, dnnl_primitive_attr_t attr) {
    dnnl_matmul_desc_t desc;
    const dnnl_status_t status = dnnl_matmul_desc_init(&desc, &a, &b, NULL, &c);
    return status != dnnl_success ? status
                                  : dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
}
#endif

enum { KERNELS_MAX = 1024, ALIGN = 64, LAYOUT_ROWS = 64 };

struct sp_dnn_kernel {
    sp_dnn_shape shape;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    layout a, b, c, scratchpad;
    size_t scratchpad_bytes;
    bool pairs; /* sp_dnn_has_pairs */
};

typedef struct lane {
    dnnl_stream_t stream;
    void *scratchpad; /* owned; as large as the largest kernel wants */
} lane;

struct sp_dnn {
    dnnl_engine_t engine;
    lane *lanes; /* owned; one a worker */
    int workers;
    size_t scratchpad_bytes;
    sp_dnn_kernel **kernels; /* owned */
    size_t n, capacity;
};

static void kernel_free(sp_dnn_kernel *k) {
    if (k == NULL) {
        return;
    }
    if (k->primitive != NULL) {
        dnnl_primitive_destroy(k->primitive);
    }
    if (k->desc != NULL) {
        dnnl_primitive_desc_destroy(k->desc);
    }
    layout_free(&k->a);
    layout_free(&k->b);
    layout_free(&k->c);
    layout_free(&k->scratchpad);
    free(k);
}

static void drop_kernels(sp_dnn *dnn) {
    for (size_t i = 0; i < dnn->n; i++) {
        kernel_free(dnn->kernels[i]);
    }
    dnn->n = 0;
}

void sp_dnn_free(sp_dnn *dnn) {
    if (dnn == NULL) {
        return;
    }
    drop_kernels(dnn);
    for (int i = 0; dnn->lanes != NULL && i < dnn->workers; i++) {
        if (dnn->lanes[i].stream != NULL) {
            dnnl_stream_destroy(dnn->lanes[i].stream);
        }
        free(dnn->lanes[i].scratchpad);
    }
    if (dnn->engine != NULL) {
        dnnl_engine_destroy(dnn->engine);
    }
    free(dnn->lanes);
    free(dnn->kernels);
    free(dnn);
}

spar_status sp_dnn_create(sp_dnn **out, int workers, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL, *lanes = NULL;
    sp_dnn *dnn = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *dnn, err));
    dnn = memory;
    SPAR_TRY(sp_mem_calloc(&lanes, (size_t)workers, sizeof(lane), err));
    dnn->lanes = lanes;
    dnn->workers = workers;
    SPAR_TRY(sp_onednn_check((int)dnnl_engine_create(&dnn->engine, dnnl_cpu, 0), "engine", err));
    for (int i = 0; i < workers; i++) {
        SPAR_TRY(sp_onednn_check(
            (int)dnnl_stream_create(&dnn->lanes[i].stream, dnn->engine, dnnl_stream_default_flags),
            "stream", err));
    }
    *out = dnn;
    dnn = NULL;
done:
    sp_dnn_free(dnn);
    return status;
}

static bool same_shape(const sp_dnn_shape *a, const sp_dnn_shape *b) {
    return a->type == b->type && a->M == b->M && a->N == b->N && a->K == b->K &&
           a->packed == b->packed && a->accumulate == b->accumulate;
}

/* The library may choose the layout by M, so that one kernel of fixed M chooses it for a packed
 * (type, N, K); the others take it, and all of them read the same copy. */
static const sp_dnn_kernel *find_layout(const sp_dnn *dnn, const sp_dnn_shape *shape) {
    for (size_t i = 0; i < dnn->n; i++) {
        const sp_dnn_shape *s = &dnn->kernels[i]->shape;
        if (s->packed && s->type == shape->type && s->N == shape->N && s->K == shape->K) {
            return dnn->kernels[i];
        }
    }
    return NULL;
}

static dnnl_status_t make_layouts(const sp_dnn *dnn, sp_dnn_kernel *k, layout *b) {
    const sp_dnn_shape *s = &k->shape;
    const dnnl_data_type_t type = s->type == SP_DNN_BF16 ? dnnl_bf16 : dnnl_f32;
    const dnnl_dims_t a_dims = {s->M, s->K}, b_dims = {s->K, s->N}, c_dims = {s->M, s->N};
    const dnnl_dims_t a_strides = {s->K, 1}, b_strides = {s->N, 1}, c_strides = {s->N, 1};
    const sp_dnn_kernel *model = s->packed ? find_layout(dnn, s) : NULL;
    dnnl_status_t status = layout_strided(&k->a, type, a_dims, a_strides);
    if (status == dnnl_success) {
        status = layout_strided(&k->c, dnnl_f32, c_dims, c_strides);
    }
    if (status != dnnl_success) {
        return status;
    }
    if (model != NULL) {
        return layout_copy(b, ARG(model->b));
    }
    return s->packed ? layout_any(b, type, b_dims) : layout_strided(b, type, b_dims, b_strides);
}

static dnnl_status_t make_attributes(dnnl_primitive_attr_t *out, bool accumulate) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(&attr);
    if (status == dnnl_success) {
        status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    }
    if (status == dnnl_success && accumulate) {
        status = dnnl_post_ops_create(&ops);
        if (status == dnnl_success) {
            status = append_sum(ops);
        }
        if (status == dnnl_success) {
            status = dnnl_primitive_attr_set_post_ops(attr, ops);
        }
    }
    if (ops != NULL) {
        dnnl_post_ops_destroy(ops);
    }
    *out = attr;
    return status;
}

static dnnl_status_t kernel_build(const sp_dnn *dnn, sp_dnn_kernel *k) {
    layout b = {0};
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = make_layouts(dnn, k, &b);
    if (status == dnnl_success) {
        status = make_attributes(&attr, k->shape.accumulate);
    }
    if (status == dnnl_success) {
        status = describe_matmul(&k->desc, dnn->engine, k->a, b, k->c, attr);
    }
    if (status == dnnl_success) {
        status =
            layout_copy(&k->b, dnnl_primitive_desc_query_md(k->desc, dnnl_query_weights_md, 0));
    }
    if (status == dnnl_success) {
        layout_view pad = dnnl_primitive_desc_query_md(k->desc, dnnl_query_scratchpad_md, 0);
        k->scratchpad_bytes = dnnl_memory_desc_get_size(pad);
        status = layout_copy(&k->scratchpad, pad);
    }
    if (status == dnnl_success) {
        status = dnnl_primitive_create(&k->primitive, k->desc);
    }
    layout_free(&b);
    if (attr != NULL) {
        dnnl_primitive_attr_destroy(attr);
    }
    return status;
}

static spar_status grow_scratchpads(sp_dnn *dnn, size_t bytes, spar_error *err) {
    if (bytes <= dnn->scratchpad_bytes) {
        return SPAR_OK;
    }
    for (int i = 0; i < dnn->workers; i++) {
        void *memory = NULL;
        const spar_status status = sp_mem_aligned(&memory, bytes, 1, err);
        if (status != SPAR_OK) {
            return status;
        }
        free(dnn->lanes[i].scratchpad);
        dnn->lanes[i].scratchpad = memory;
    }
    dnn->scratchpad_bytes = bytes;
    return SPAR_OK;
}

static bool has_pairs(const sp_dnn_kernel *kernel) {
    enum { K = 32, N = 64, PAIR = 2 };
    const blocking b = blocking_of(ARG(kernel->b));
    const int64_t blocks = (kernel->shape.K + K - 1) / K;
    const bool pairs = b.known && b.n == 3 && b.dims[0] == 0 && b.sizes[0] == K / PAIR &&
                       b.dims[1] == 1 && b.sizes[1] == N && b.dims[2] == 0 && b.sizes[2] == PAIR;
    return pairs && kernel->shape.type == SP_DNN_BF16 && b.strides[0] == K * N &&
           b.strides[1] == blocks * K * N;
}

static spar_status kernel_add(sp_dnn *dnn, const sp_dnn_shape *shape, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL, *list = dnn->kernels;
    SPAR_TRY(sp_mem_grow(&list, &dnn->capacity, dnn->n + 1, sizeof *dnn->kernels, err));
    dnn->kernels = list;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof(sp_dnn_kernel), err));
    sp_dnn_kernel *k = memory;
    k->shape = *shape;
    sp_onednn_single();
    SPAR_TRY(sp_onednn_check((int)kernel_build(dnn, k), "matrix product", err));
    k->pairs = has_pairs(k);
    SPAR_TRY(grow_scratchpads(dnn, k->scratchpad_bytes, err));
    dnn->kernels[dnn->n++] = k;
    memory = NULL;
done:
    kernel_free(memory);
    return status;
}

static spar_status ensure_layout(sp_dnn *dnn, const sp_dnn_shape *shape, spar_error *err) {
    if (!shape->packed || find_layout(dnn, shape) != NULL) {
        return SPAR_OK;
    }
    sp_dnn_shape model = *shape;
    model.M = LAYOUT_ROWS;
    model.accumulate = false;
    return kernel_add(dnn, &model, err);
}

static const sp_dnn_kernel *find_kernel(const sp_dnn *dnn, const sp_dnn_shape *shape) {
    for (size_t i = 0; i < dnn->n; i++) {
        if (same_shape(&dnn->kernels[i]->shape, shape)) {
            return dnn->kernels[i];
        }
    }
    return NULL;
}

spar_status sp_dnn_get(sp_dnn *dnn, const sp_dnn_shape *shape, const sp_dnn_kernel **out,
                       spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(ensure_layout(dnn, shape, err));
    *out = find_kernel(dnn, shape);
    if (*out == NULL) {
        SPAR_TRY(kernel_add(dnn, shape, err));
        *out = find_kernel(dnn, shape);
    }
done:
    return status;
}

size_t sp_dnn_packed_bytes(const sp_dnn_kernel *kernel) {
    const size_t bytes = dnnl_memory_desc_get_size(ARG(kernel->b));
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Of N. */
static int64_t block_size(const blocking *b) {
    int64_t size = 1;
    for (int i = 0; i < b->n; i++) {
        size *= b->dims[i] == 1 ? b->sizes[i] : 1;
    }
    return size;
}

bool sp_dnn_is_slice(const sp_dnn_kernel *whole, const sp_dnn_kernel *part) {
    const blocking w = blocking_of(ARG(whole->b)), p = blocking_of(ARG(part->b));
    if (!w.known || !p.known || w.n != p.n) {
        return false;
    }
    for (int i = 0; i < w.n; i++) {
        if (w.sizes[i] != p.sizes[i] || w.dims[i] != p.dims[i]) {
            return false;
        }
    }
    const int64_t n = block_size(&w), blocks = (part->shape.N + n - 1) / n;
    const bool last = part->shape.N % n != 0; /* padded: nothing may follow it */
    const size_t bytes = dnnl_memory_desc_get_size(ARG(part->b));
    const size_t element = whole->shape.type == SP_DNN_BF16 ? 2 : 4;
    return n > 1 && w.strides[0] == p.strides[0] && w.strides[1] == p.strides[1] &&
           bytes == (size_t)(blocks * p.strides[1]) * element && bytes % ALIGN == 0 &&
           (!last || whole->shape.N % n != 0);
}

bool sp_dnn_has_pairs(const sp_dnn_kernel *kernel) {
    return kernel->pairs;
}

const sp_dnn_shape *sp_dnn_shape_of(const sp_dnn_kernel *kernel) {
    return &kernel->shape;
}

const char *sp_dnn_implementation(const sp_dnn_kernel *kernel) {
    const char *name = NULL;
    dnnl_primitive_desc_query(kernel->desc, dnnl_query_impl_info_str, 0, (void *)&name);
    return name == NULL ? "" : name;
}

/* oneDNN takes even what it only reads by a plain pointer. */
static void *writable(const void *p) {
    return (void *)(uintptr_t)p;
}

typedef struct binding {
    int argument;
    layout_view view;
    void *data;
} binding;

enum { BINDINGS_MAX = 4 };

static int execute(const sp_dnn *dnn, dnnl_primitive_t primitive, int worker,
                   const binding bindings[], int n) {
    dnnl_exec_arg_t args[BINDINGS_MAX];
    dnnl_status_t status = dnnl_success;
    int made = 0;
    while (made < n && status == dnnl_success) {
        args[made].arg = bindings[made].argument;
        status = dnnl_memory_create(&args[made].memory, bindings[made].view, dnn->engine,
                                    bindings[made].data);
        made += status == dnnl_success;
    }
    if (status == dnnl_success) {
        status = dnnl_primitive_execute(primitive, dnn->lanes[worker].stream, n, args);
    }
    if (status == dnnl_success) {
        status = dnnl_stream_wait(dnn->lanes[worker].stream);
    }
    for (int i = 0; i < made; i++) {
        dnnl_memory_destroy(args[i].memory);
    }
    return (int)status;
}

int sp_dnn_run(const sp_dnn *dnn, const sp_dnn_kernel *kernel, int worker, const void *a,
               const void *b, float *c) {
    const binding bindings[] = {
        {DNNL_ARG_SRC, ARG(kernel->a), writable(a)},
        {DNNL_ARG_WEIGHTS, ARG(kernel->b), writable(b)},
        {DNNL_ARG_DST, ARG(kernel->c), c},
        {DNNL_ARG_SCRATCHPAD, ARG(kernel->scratchpad), dnn->lanes[worker].scratchpad}};
    return execute(dnn, kernel->primitive, worker, bindings, BINDINGS_MAX);
}

int sp_dnn_pack(const sp_dnn *dnn, const sp_dnn_kernel *kernel, int worker, const float *b,
                int64_t row, int64_t column, void *packed) {
    const dnnl_dims_t dims = {kernel->shape.K, kernel->shape.N}, strides = {row, column};
    layout from = {0};
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_status_t status = layout_strided(&from, dnnl_f32, dims, strides);
    if (status == dnnl_success) {
        status = dnnl_reorder_primitive_desc_create(&desc, ARG(from), dnn->engine, ARG(kernel->b),
                                                    dnn->engine, NULL);
    }
    if (status == dnnl_success) {
        status = dnnl_primitive_create(&reorder, desc);
    }
    int code = (int)status;
    if (status == dnnl_success) {
        const binding bindings[] = {{DNNL_ARG_FROM, ARG(from), writable(b)},
                                    {DNNL_ARG_TO, ARG(kernel->b), packed}};
        code = execute(dnn, reorder, worker, bindings, 2);
        dnnl_primitive_destroy(reorder);
    }
    if (desc != NULL) {
        dnnl_primitive_desc_destroy(desc);
    }
    layout_free(&from);
    return code;
}

void sp_dnn_trim(sp_dnn *dnn) {
    if (dnn->n > KERNELS_MAX) {
        drop_kernels(dnn);
    }
}
