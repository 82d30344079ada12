/* The pre-tokenisers that GGUF files name (tokenizer.ggml.pre). */
#ifndef SP_TEXT_PRE_NAMES_H
#define SP_TEXT_PRE_NAMES_H

#include <stdbool.h>
#include <stddef.h>

typedef struct sp_pre {
    const char *const *patterns; /* NULL-terminated; each splits what the one before left */
    bool nfc;                    /* text is brought to NFC first */
    bool ignore_merges;          /* whole words of the vocabulary are taken as they are */
    bool add_bos;                /* unless the file says otherwise */
} sp_pre;

/* An empty name is "default". NULL: the name is not known. */
const sp_pre *sp_pre_find(const char *name, size_t n);

/* The name of the pre-tokeniser with these patterns [n] and settings, *length bytes; NULL: none. */
const char *sp_pre_name(const char *const *patterns, size_t n, bool nfc, bool ignore_merges,
                        size_t *length);
/* GPT-2's words, which the step ByteLevel splits by when it is told to. */
const char *sp_pre_gpt2_words(void);

#endif
