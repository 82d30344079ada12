/* The parts of a tokenizer against what the Hugging Face tokenizers library (0.23) gives for the
 * same settings and texts: pre-tokenizers, normalizers, decoders, and a small tokenizer with
 * changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "text/tokenizer_parts.h"

static const struct split_case {
    const char *step, *text, *pieces; /* joined by | */
} split_cases[] = {
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": \"Removed\", "
     "\"invert\": false}",
     "a  b\xE1\xA0\x8E 12\n c", "a|b\xE1\xA0\x8E|12\n|c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"behavior\": \"Removed\", "
     "\"invert\": true}",
     "a  b\xE1\xA0\x8E 12\n c", "  | |\n "},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\d|\\\\s\"}, \"behavior\": \"Removed\", "
     "\"invert\": false}",
     "a  b\xE1\xA0\x8E 12\n c", "a|b\xE1\xA0\x8E|c"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "a  b\xE1\xA0\x8E 12\n c", "a| | |b\xE1\xA0\x8E| |12\n| |c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"behavior\": \"Isolated\", "
     "\"invert\": true}",
     "a  b\xE1\xA0\x8E 12\n c", "a|  |b\xE1\xA0\x8E| |12|\n |c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\d|\\\\s\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "a  b\xE1\xA0\x8E 12\n c", "a| | |b\xE1\xA0\x8E| |1|2|\n| |c"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": "
     "\"MergedWithPrevious\", \"invert\": false}",
     "a  b\xE1\xA0\x8E 12\n c", "a | |b\xE1\xA0\x8E |12\n |c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"behavior\": "
     "\"MergedWithPrevious\", \"invert\": true}",
     "a  b\xE1\xA0\x8E 12\n c", "a|  b\xE1\xA0\x8E| 12|\n c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\d|\\\\s\"}, \"behavior\": "
     "\"MergedWithPrevious\", \"invert\": false}",
     "a  b\xE1\xA0\x8E 12\n c", "a | |b\xE1\xA0\x8E |1|2|\n| |c"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": \"MergedWithNext\", "
     "\"invert\": false}",
     "a  b\xE1\xA0\x8E 12\n c", "a| | b\xE1\xA0\x8E| 12\n| c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"behavior\": "
     "\"MergedWithNext\", \"invert\": true}",
     "a  b\xE1\xA0\x8E 12\n c", "a  |b\xE1\xA0\x8E |12\n |c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\d|\\\\s\"}, \"behavior\": "
     "\"MergedWithNext\", \"invert\": false}",
     "a  b\xE1\xA0\x8E 12\n c", "a| | b\xE1\xA0\x8E| |1|2|\n| c"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": \"Contiguous\", "
     "\"invert\": false}",
     "a  b\xE1\xA0\x8E 12\n c", "a|  |b\xE1\xA0\x8E| |12\n| |c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"behavior\": \"Contiguous\", "
     "\"invert\": true}",
     "a  b\xE1\xA0\x8E 12\n c", "a|  |b\xE1\xA0\x8E| |12|\n |c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\d|\\\\s\"}, \"behavior\": "
     "\"Contiguous\", \"invert\": false}",
     "a  b\xE1\xA0\x8E 12\n c", "a|  |b\xE1\xA0\x8E| 12\n |c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\b\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "ab \xE0\xA4\xA8\xE0\xA4\xBF-c", "ab| |\xE0\xA4\xA8\xE0\xA4\xBF|-|c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"^.\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "ab\ncd\n", "a|b\n|c|d\n"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \".$\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "ab\ncd\n", "a|b|\nc|d|\n"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\h+\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "xaf0g", "x|af0|g"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\u0061\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "bab", "b|a|b"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(?m:b.)\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "ab\nc", "a|b\n|c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[[:punct:]]\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "a+b\xE2\x96\x81"
     "c",
     "a|+|b|\xE2\x96\x81|c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\w+\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "\xCC\x81\xC2\xB2\xE2\x91\xA0\xE2\x92\xB6 _x",
     "\xCC\x81\xC2\xB2|\xE2\x91\xA0|\xE2\x92\xB6| |_x"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[\\\\w]+\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "x\xC2\xB2y", "x|\xC2\xB2|y"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(?=c)\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "abcc", "ab|c|c"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": "
     "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
     "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, "
     "\"behavior\": \"Isolated\", \"invert\": false}",
     "It'S  1234567 caf\xC3\xA9!!\n\n  x \t\xE3\x80\x80y  ",
     "It|'S| | |123|456|7| caf\xC3\xA9|!!\n\n| | x| \t|\xE3\x80\x80y|  "},
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": "
     "true}",
     "it's \xC3\xA9  \n 12",
     "\xC4\xA0it|'s|\xC4\xA0\xC3\x83\xC2\xA9|\xC4\xA0\xC4\xA0\xC4\x8A|\xC4\xA0"
     "12"},
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": "
     "false}",
     "it's \xC3\xA9  \n 12",
     "\xC4\xA0it's\xC4\xA0\xC3\x83\xC2\xA9\xC4\xA0\xC4\xA0\xC4\x8A\xC4\xA0"
     "12"},
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
     "\"use_regex\": true}",
     "it's \xC3\xA9  \n 12",
     "it|'s|\xC4\xA0\xC3\x83\xC2\xA9|\xC4\xA0\xC4\xA0\xC4\x8A|\xC4\xA0"
     "12"},
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
     "\"use_regex\": false}",
     "it's \xC3\xA9  \n 12",
     "it's\xC4\xA0\xC3\x83\xC2\xA9\xC4\xA0\xC4\xA0\xC4\x8A\xC4\xA0"
     "12"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"always\", "
     "\"split\": true}",
     "a  b\xE2\x96\x81"
     "c",
     "\xE2\x96\x81"
     "a|\xE2\x96\x81|\xE2\x96\x81"
     "b|\xE2\x96\x81"
     "c"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"always\", "
     "\"split\": false}",
     "a  b\xE2\x96\x81"
     "c",
     "\xE2\x96\x81"
     "a\xE2\x96\x81\xE2\x96\x81"
     "b\xE2\x96\x81"
     "c"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"never\", "
     "\"split\": true}",
     "a  b\xE2\x96\x81"
     "c",
     "a|\xE2\x96\x81|\xE2\x96\x81"
     "b|\xE2\x96\x81"
     "c"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"never\", "
     "\"split\": false}",
     "a  b\xE2\x96\x81"
     "c",
     "a\xE2\x96\x81\xE2\x96\x81"
     "b\xE2\x96\x81"
     "c"},
    {"{\"type\": \"Whitespace\"}",
     "a\xCC\x81\xE2\x80\x8D"
     "b \xC2\xB2-- \xE2\x92\xB6_\xE1\xA0\x8Ex",
     "a\xCC\x81\xE2\x80\x8D"
     "b|\xC2\xB2--|\xE2\x92\xB6_|\xE1\xA0\x8E|x"},
    {"{\"type\": \"BertPreTokenizer\"}",
     "Hey, you!? a$b\xC2\xA0"
     "c\xE3\x80\x82"
     "d_e  \xE2\x82\xAC"
     "5",
     "Hey|,|you|!|?|a|$|b|c|\xE3\x80\x82|d|_|e|\xE2\x82\xAC"
     "5"},
    {"{\"type\": \"WhitespaceSplit\"}",
     "a \xE3\x80\x80\xE1\xA0\x8E"
     "b\n",
     "a|\xE1\xA0\x8E"
     "b"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"Isolated\"}", "a$b \xE2\x80\xBF\xE2\x80\x94!!",
     "a|$|b |\xE2\x80\xBF|\xE2\x80\x94|!|!"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"Removed\"}", "a$b", "a|b"},
    {"{\"type\": \"Digits\", \"individual_digits\": true}", "a12\xC2\xBD\xE2\x85\xA7",
     "a|1|2|\xC2\xBD|\xE2\x85\xA7"},
    {"{\"type\": \"Digits\", \"individual_digits\": false}",
     "a12\xC2\xBD\xE2\x85\xA7"
     "b",
     "a|12\xC2\xBD\xE2\x85\xA7|b"},
    {"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", \"individual_digits\": "
     "true}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
     "\"use_regex\": true}]}",
     "x 12  y", "x|\xC4\xA0|1|2|\xC4\xA0|\xC4\xA0y"},
    {"{\"type\": \"CharDelimiterSplit\", \"delimiter\": \"x\"}", "axxbx c", "a|b| c"},
    {"{\"type\": \"CharDelimiterSplit\", \"delimiter\": \"x\"}", "\xC3\xA9 x", "\xC3\xA9 "},
    {"{\"type\": \"FixedLength\", \"length\": 3}", "abcd\xC3\xA9\xE4\xB8\xADx",
     "abc|d\xC3\xA9\xE4\xB8\xAD|x"},
    {"{\"type\": \"UnicodeScripts\"}",
     "a b 12 \xE4\xB8\xAD\xE3\x83\xBC\xE3\x81\x82\xE3\x82\xA2\xEA\xB0\x80!",
     "a b |12 |\xE4\xB8\xAD\xE3\x83\xBC\xE3\x81\x82\xE3\x82\xA2|\xEA\xB0\x80|!"},
    {"{\"type\": \"UnicodeScripts\"}", "  a", "a"},
    {"{\"type\": \"UnicodeScripts\"}", "\x09 a", "\x09 |a"},
    {"{\"type\": \"UnicodeScripts\"}", "\xD1\x8F\xCC\x81 \xD1\x8F,\xE3\x80\x82\xE4\xB8\xAD",
     "\xD1\x8F|\xCC\x81 |\xD1\x8F|,\xE3\x80\x82|\xE4\xB8\xAD"},
    {"{\"type\": \"UnicodeScripts\"}", "   ", ""},
    {"{\"type\": \"UnicodeScripts\"}",
     "\xF0\x9F\x98\x80"
     "a\xD8\x80\xF3\xA0\x84\x80"
     "b",
     "\xF0\x9F\x98\x80|a|\xD8\x80|\xF3\xA0\x84\x80|b"},
    {"{\"type\": \"UnicodeScripts\"}", "\xEA\x80\x80 \xE1\xBC\x80\xCE\xB1",
     "\xEA\x80\x80 |\xE1\xBC\x80\xCE\xB1"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": "
     "\"[\\\\p{Han}]+|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}&&"
     "[^\\\\p{Han}]]*[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}&&[^\\\\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|"
     "'d)?|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}&&[^\\\\p{"
     "Han}]]+[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}&&[^\\\\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
     "\\\\p{N}{1,3}| "
     "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, "
     "\"behavior\": \"Isolated\", \"invert\": false}",
     "Hello\xE4\xB8\xAD\xE6\x96\x87World's \xE3\x80\x87\xE3\x81\x82x 1234 \xE4\xB8\xAD "
     "e\xCC\x81\xE4\xBA\x8C!?\x0A\x0A  z",
     "Hello|\xE4\xB8\xAD\xE6\x96\x87|World's| |\xE3\x80\x87|\xE3\x81\x82x| |123|4| |\xE4\xB8\xAD| "
     "e\xCC\x81|\xE4\xBA\x8C|!?\x0A\x0A| | z"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": "
     "\"[\\\\p{Han}]+|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}&&"
     "[^\\\\p{Han}]]*[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}&&[^\\\\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|"
     "'d)?|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}&&[^\\\\p{"
     "Han}]]+[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}&&[^\\\\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
     "\\\\p{N}{1,3}| "
     "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, "
     "\"behavior\": \"Isolated\", \"invert\": false}",
     "ABCdef\xE2\xBA\x80\xE3\x80\x85\xE6\xBC\xA2\xEA\xB0\x80x  ",
     "ABCdef|\xE2\xBA\x80\xE3\x80\x85\xE6\xBC\xA2|\xEA\xB0\x80x|  "},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[\\\\p{Hiragana}\\\\p{Katakana}]+\"}, "
     "\"behavior\": \"Isolated\", \"invert\": false}",
     "\xE3\x81\x82\xE3\x82\xA2\xE3\x83\xBC\xE3\x80\x81x\xEF\xBD\xB1",
     "\xE3\x81\x82\xE3\x82\xA2|\xE3\x83\xBC\xE3\x80\x81x|\xEF\xBD\xB1"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\P{Hangul}\"}, \"behavior\": "
     "\"Isolated\", \"invert\": false}",
     "\xEA\xB0\x80\xE1\x84\x80"
     "a\xE3\x84\xB1"
     "b",
     "\xEA\xB0\x80\xE1\x84\x80|a|\xE3\x84\xB1|b"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[[a-c]&&[b-z]]\"}, \"behavior\": "
     "\"Isolated\", \"invert\": false}",
     "abcd", "a|b|c|d"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[^a&&[ab]]+\"}, \"behavior\": \"Isolated\", "
     "\"invert\": false}",
     "abca", "a|bc|a"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"Removed\"}",
     "a,,b !?\xE3\x80\x82"
     "c\xE2\xB9\x83"
     "d",
     "a|b |c\xE2\xB9\x83"
     "d"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"MergedWithPrevious\"}",
     "a,,b !?\xE3\x80\x82"
     "c\xE2\xB9\x83"
     "d",
     "a,|,|b !|?|\xE3\x80\x82|c\xE2\xB9\x83"
     "d"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"MergedWithNext\"}",
     "a,,b !?\xE3\x80\x82"
     "c\xE2\xB9\x83"
     "d",
     "a|,|,b |!|?|\xE3\x80\x82"
     "c\xE2\xB9\x83"
     "d"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"Contiguous\"}",
     "a,,b !?\xE3\x80\x82"
     "c\xE2\xB9\x83"
     "d",
     "a|,,|b |!?\xE3\x80\x82|c\xE2\xB9\x83"
     "d"},
    {"{\"type\": \"FixedLength\", \"length\": 1}", "ab\xE4\xB8\xAD\xC3\xA9\xF0\x9F\x98\x80x",
     "a|b|\xE4\xB8\xAD|\xC3\xA9|\xF0\x9F\x98\x80|x"},
    {"{\"type\": \"FixedLength\", \"length\": 3}", "ab\xE4\xB8\xAD\xC3\xA9\xF0\x9F\x98\x80x",
     "ab\xE4\xB8\xAD|\xC3\xA9\xF0\x9F\x98\x80x"},
    {"{\"type\": \"Digits\", \"individual_digits\": true}",
     "a\xC2\xB2\xF0\x91\xB7\xA1\xE2\x85\xA7"
     "b12",
     "a|\xC2\xB2|\xF0\x91\xB7\xA1|\xE2\x85\xA7|b|1|2"},
    {"{\"type\": \"Digits\", \"individual_digits\": false}",
     "a\xC2\xB2\xF0\x91\xB7\xA1\xE2\x85\xA7"
     "b12",
     "a|\xC2\xB2\xF0\x91\xB7\xA1\xE2\x85\xA7|b|12"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{L}+\"}, \"behavior\": \"Removed\", "
     "\"invert\": true}",
     "a\xF0\x90\x97\x80\xF0\x9E\x97\x90"
     "b \xEA\x9F\x8B"
     "1\xE1\xB2\x89",
     "a\xF0\x90\x97\x80\xF0\x9E\x97\x90"
     "b|\xEA\x9F\x8B|\xE1\xB2\x89"},
    {"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": "
     "\"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"always\", \"split\": "
     "false}]}",
     " ab c\xE2\x96\x81"
     "d",
     "\xE2\x96\x81"
     "ab|\xE2\x96\x81"
     "c\xE2\x96\x81"
     "d"},
    {"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": "
     "\"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"never\", \"split\": "
     "false}]}",
     " ab c\xE2\x96\x81"
     "d",
     "ab|c\xE2\x96\x81"
     "d"},
    {"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": "
     "\"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"first\", \"split\": "
     "false}]}",
     " ab c\xE2\x96\x81"
     "d",
     "ab|c\xE2\x96\x81"
     "d"},
};

static const struct normal_case {
    const char *step, *text, *normal;
} normal_cases[] = {
    {"{\"type\": \"NFC\"}", "e\xCC\x81\xEF\xAC\x81\xC2\xBD\xC3\x85\xEA\xB0\x80\xE2\x84\xAB",
     "\xC3\xA9\xEF\xAC\x81\xC2\xBD\xC3\x85\xEA\xB0\x80\xC3\x85"},
    {"{\"type\": \"NFD\"}", "e\xCC\x81\xEF\xAC\x81\xC2\xBD\xC3\x85\xEA\xB0\x80\xE2\x84\xAB",
     "e\xCC\x81\xEF\xAC\x81\xC2\xBD"
     "A\xCC\x8A\xE1\x84\x80\xE1\x85\xA1"
     "A\xCC\x8A"},
    {"{\"type\": \"NFKC\"}", "e\xCC\x81\xEF\xAC\x81\xC2\xBD\xC3\x85\xEA\xB0\x80\xE2\x84\xAB",
     "\xC3\xA9"
     "fi1\xE2\x81\x84"
     "2\xC3\x85\xEA\xB0\x80\xC3\x85"},
    {"{\"type\": \"NFKD\"}", "e\xCC\x81\xEF\xAC\x81\xC2\xBD\xC3\x85\xEA\xB0\x80\xE2\x84\xAB",
     "e\xCC\x81"
     "fi1\xE2\x81\x84"
     "2A\xCC\x8A\xE1\x84\x80\xE1\x85\xA1"
     "A\xCC\x8A"},
    {"{\"type\": \"BertNormalizer\"}",
     "A\xCD\xB8"
     "b\xEE\x80\x80"
     "c\xC2\xAD"
     "d",
     "a\xCD\xB8"
     "bcd"},
    {"{\"type\": \"BertNormalizer\"}",
     "\xE2\x80\x8Bx\xEF\xBF\xBD\xC2\xA0y\x09\x0D\x0Az\xC2\x85w\xE2\x80\xA8v", "x y   zw v"},
    {"{\"type\": \"BertNormalizer\"}",
     "\xE4\xB8\xAD\xE6\x96\x87x\xF0\xAB\xA0\xA0\xF0\xAB\xA4\xA0\xEF\xA4\x80",
     " \xE4\xB8\xAD  \xE6\x96\x87 x\xF0\xAB\xA0\xA0 \xF0\xAB\xA4\xA0  \xE8\xB1\x88 "},
    {"{\"type\": \"BertNormalizer\"}",
     "\xC3\x89\xC4\xB0 \xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA5\x8D \xC3\xA9",
     "ei \xE0\xA4\xB9\xE0\xA4\xBF e"},
    {"{\"type\": \"BertNormalizer\", \"clean_text\": false, \"handle_chinese_chars\": false, "
     "\"strip_accents\": true, \"lowercase\": false}",
     "\xC3\x89\xC4\xB0 \xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA5\x8D \xC3\xA9\x09\xE4\xB8\xAD",
     "EI \xE0\xA4\xB9\xE0\xA4\xBF e\x09\xE4\xB8\xAD"},
    {"{\"type\": \"BertNormalizer\", \"clean_text\": false, \"handle_chinese_chars\": false, "
     "\"strip_accents\": false, \"lowercase\": true}",
     "\xC3\x89\xC4\xB0 \xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA5\x8D \xC3\xA9\x09\xE4\xB8\xAD",
     "\xC3\xA9i\xCC\x87 \xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA5\x8D \xC3\xA9\x09\xE4\xB8\xAD"},
    {"{\"type\": \"BertNormalizer\", \"clean_text\": false, \"handle_chinese_chars\": false, "
     "\"strip_accents\": null, \"lowercase\": false}",
     "\xC3\x89\xC4\xB0 \xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA5\x8D \xC3\xA9\x09\xE4\xB8\xAD",
     "\xC3\x89\xC4\xB0 \xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA5\x8D \xC3\xA9\x09\xE4\xB8\xAD"},
    {"{\"type\": \"Lowercase\"}", "\xC4\xB0I\xCE\xA3\xC3\x89", "i\xCC\x87i\xCF\x83\xC3\xA9"},
    {"{\"type\": \"StripAccents\"}", "e\xCC\x81\xE0\xA4\xBF\xE2\x83\x9Dx", "ex"},
    {"{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": false}",
     " \xE3\x80\x80"
     "a \n",
     "a \n"},
    {"{\"type\": \"Strip\", \"strip_left\": false, \"strip_right\": true}", " a \xE2\x80\xA8\n",
     " a"},
    {"{\"type\": \"Prepend\", \"prepend\": \"\\u2581\"}", "ab",
     "\xE2\x96\x81"
     "ab"},
    {"{\"type\": \"Prepend\", \"prepend\": \"\\u2581\"}", "", ""},
    {"{\"type\": \"Replace\", \"pattern\": {\"String\": \"aa\"}, \"content\": \"b\"}", "aaaxaa",
     "baxb"},
    {"{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"content\": \"_\"}",
     "a \n b\xE1\xA0\x8E", "a_b\xE1\xA0\x8E"},
    {"{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"b*\"}, \"content\": \"-\"}", "abbc",
     "-a-c-"},
    {"{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFD\"}, {\"type\": "
     "\"StripAccents\"}, {\"type\": \"Lowercase\"}]}",
     "\xC3\x89"
     "A\xCC\x8A",
     "ea"},
    {"{\"type\": \"Nmt\"}",
     "a\x01"
     "b\x0B"
     "c\x0C"
     "d\x09"
     "e\x7F\xC2\x9F\xE2\x80\x8B\xE2\x80\xA8\xE2\x96\x81\xEF\xBB\xBF\xEF\xBF\xBD\xE1\x9A\x80z\xC2"
     "\x85",
     "abc d e      z\xC2\x85"},
};

static const struct decode_case {
    const char *step, *tokens /* joined by | */, *text;
} decode_cases[] = {
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": "
     "true}",
     "\xC4\xA0"
     "caf|\xC3\x83|\xC2\xA9|<x\xE2\x96\x81>|\xC3\xA2\xC4\xA4|a",
     " caf\xC3\xA9<x\xE2\x96\x81>\xEF\xBF\xBD"
     "a"},
    {"{\"type\": \"ByteFallback\"}", "<0xE4>|<0xB8>|<0xAD>|a|<0xE4>|<0xB8>|b|<0x0a>|<0x-1>",
     "\xE4\xB8\xAD"
     "a\xEF\xBF\xBD\xEF\xBF\xBD"
     "b\n<0x-1>"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"always\", "
     "\"split\": true}",
     "\xE2\x96\x81\xE2\x96\x81"
     "a|\xE2\x96\x81\xE2\x96\x81"
     "b",
     "a  b"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"never\", "
     "\"split\": true}",
     "\xE2\x96\x81"
     "a|\xE2\x96\x81"
     "b",
     " a b"},
    {"{\"type\": \"Strip\", \"content\": \"x\", \"start\": 1, \"stop\": 1}", "xxaxx|bx|xc",
     "xaxbc"},
    {"{\"type\": \"Replace\", \"pattern\": {\"String\": \"\\u2581\"}, \"content\": \" \"}",
     "\xE2\x96\x81"
     "a\xE2\x96\x81|\xE2\x96\x81",
     " a  "},
    {"{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": "
     "\"\\u2581\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, "
     "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}",
     "\xE2\x96\x81\xE2\x96\x81"
     "a|<0xC3>|<0xA9>|\xE2\x96\x81"
     "b",
     " a\xC3\xA9 b"},
    {"{\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": true}",
     "hel|##lo|,|do not|wor|##ld|!|ca| n't|##", "hello, don't world! ca n't"},
    {"{\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": true}", "##a|b|##.|'s",
     "##a b.'s"},
    {"{\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": false}", "a|##b|.|c", "ab . c"},
    {"{\"type\": \"BPEDecoder\", \"suffix\": \"</w>\"}", "a|b</w>|c</w>|d</w>", "ab c d"},
    {"{\"type\": \"CTC\", \"pad_token\": \"<pad>\", \"word_delimiter_token\": \"/\", \"cleanup\": "
     "true}",
     "<pad>|h|h|<pad>|e|l|l|<pad>|l|o|/|/|<pad>|w| .", "hello w."},
    {"{\"type\": \"CTC\", \"pad_token\": \"<pad>\", \"word_delimiter_token\": \"/\", \"cleanup\": "
     "false}",
     "h|h|<pad>|h|/|w| .", "hh/w ."},
    {"{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"CTC\", \"pad_token\": \"<pad>\", "
     "\"word_delimiter_token\": \"/\", \"cleanup\": false}, {\"type\": \"WordPiece\", \"prefix\": "
     "\"##\", \"cleanup\": false}]}",
     "<pad>|a|b", "a b"},
    {"{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"ByteFallback\"}, {\"type\": "
     "\"WordPiece\", \"prefix\": \"##\", \"cleanup\": false}]}",
     "<0xE4>|<0xB8>|b", "\xEF\xBF\xBD \xEF\xBF\xBD b"},
    {"{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": \"Replace\", "
     "\"pattern\": {\"Regex\": \"$\"}, \"content\": \"c\"}]}",
     "", ""},
};

static const char small_tokenizer[] =
    "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [{\"id\": "
    "0, \"conten"
    "t\": \"<unk>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
    "false, "
    "\"special\": true}, {\"id\": 1, \"content\": \"<s>\", \"single_word\": false, \"lstrip\": "
    "false, \"rstr"
    "ip\": false, \"normalized\": false, \"special\": true}, {\"id\": 2, \"content\": \"</s>\", "
    "\"single_wo"
    "rd\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": "
    "true}], \"nor"
    "malizer\": null, \"pre_tokenizer\": null, \"post_processor\": null, \"decoder\": {\"type\": "
    "\"Fuse\"}"
    ", \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": \"<unk>\", "
    "\"continuing_subword_pref"
    "ix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, "
    "\"ignore_"
    "merges\": false, \"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"</s>\": 2, \"a\": 3, \"b\": 4, "
    "\"c\": 5, \" \": 6,"
    " \"\\u2581\": 7, \"ab\": 8, \"abc\": 9, \"bc\": 10, \"\\u2581a\": 11, \"\\u2581ab\": 12, "
    "\"<0x64>\": 13, \"<"
    "0xC3>\": 14, \"<0xA9>\": 15, \"<x>\": 16, \"\\n\": 17, \"aa\": 18, \"aaaa\": 19}, \"merges\": "
    "[\"a b\", \"a"
    "b c\", \"b c\", \"\\u2581 a\", \"\\u2581a b\", \"a a\", \"aa aa\"]}}";

/* Other models in place of the small tokenizer's. */
#define UNIGRAM                                                                                    \
    "{\"added_tokens\": [], \"model\": {\"type\": \"Unigram\", \"vocab\": [[\"<unk>\""             \
    ", 0.0], [\"<s>\", 0.0], [\"</s>\", 0.0], [\"a\", -3.5], [\"b\", -3.25], [\"ab\","             \
    " -5.0], [\"abc\", -5.5], [\"c\", -4.0], [\"bc\", -4.25], [\"\\u2581\", -2.0], [\""            \
    "<0xC3>\", -9.0], [\"<0xA9>\", -9.0], [\"-\", -5.129043102264404], [\"---\", -12."             \
    "130167007446289], [\"xyz\", -8.0], [\"b\", -1.0]], \"unk_id\": 0, \"byte_fallbac"             \
    "k\": false}}"
#define UNIGRAM_BYTES                                                                              \
    "{\"added_tokens\": [], \"model\": {\"type\": \"Unigram\", \"vocab\": [[\"<unk>\""             \
    ", 0.0], [\"<s>\", 0.0], [\"</s>\", 0.0], [\"a\", -3.5], [\"b\", -3.25], [\"ab\","             \
    " -5.0], [\"abc\", -5.5], [\"c\", -4.0], [\"bc\", -4.25], [\"\\u2581\", -2.0], [\""            \
    "<0xC3>\", -9.0], [\"<0xA9>\", -9.0], [\"-\", -5.129043102264404], [\"---\", -12."             \
    "130167007446289], [\"xyz\", -8.0], [\"b\", -1.0]], \"unk_id\": 0, \"byte_fallbac"             \
    "k\": true}}"
#define WORD_PIECE                                                                                 \
    "{\"added_tokens\": [], \"model\": {\"type\": \"WordPiece\", \"vocab\": {\"[UNK]\""            \
    ": 0, \"un\": 1, \"##aff\": 2, \"##able\": 3, \"##a\": 4, \"a\": 5, \"##ff\": 6, "             \
    "\"\\u00e9\": 7, \"##\\u00e9\": 8, \"[CLS]\": 9}, \"unk_token\": \"[UNK]\", \"con"             \
    "tinuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 8}}"
#define WORD_LEVEL                                                                                 \
    "{\"added_tokens\": [], \"model\": {\"type\": \"WordLevel\", \"vocab\": {\"<unk>\""            \
    ": 0, \"abc\": 1}, \"unk_token\": \"<unk>\"}}"
#define BPE_AFFIXES                                                                                \
    "{\"added_tokens\": [], \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_t"             \
    "oken\": \"u\", \"continuing_subword_prefix\": \"##\", \"end_of_word_suffix\": \""             \
    "</w>\", \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": false,"             \
    " \"vocab\": {\"u\": 0, \"a\": 1, \"##b\": 2, \"##b</w>\": 3, \"ab\": 4, \"ab</w>"             \
    "\": 5, \"##c\": 6, \"##bc\": 7, \"a</w>\": 8, \"##c</w>\": 9, \"abc</w>\": 10, \""            \
    "abbc\": 11}, \"merges\": [[\"a\", \"##b\"], [\"##b\", \"##c\"], [\"a\", \"##b</w"             \
    ">\"], [\"ab\", \"##c</w>\"], [\"ab\", \"##bc\"]]}}"

static const struct encode_case {
    const char *changes, *text, *ids, *special; /* ids alone, and with BOS and EOS */
} encode_cases[] = {
    {"{}", "abcab", "9 8", "9 8"},
    {"{}", "", "", ""},
    {"{}", "aaaaaaaaa", "19 19 3", "19 19 3"},
    {"{}", "a<s>b</s>ab<unk>", "3 1 4 2 8 0", "3 1 4 2 8 0"},
    {"{}", "xyz a", "0 0 0 6 3", "0 0 0 6 3"},
    {"{\"model\": {\"fuse_unk\": true}}", "xyz a", "0 6 3", "0 6 3"},
    {"{\"model\": {\"byte_fallback\": true, \"fuse_unk\": true}}", "d\xC3\xA9xdyx", "13 14 15 13 0",
     "13 14 15 13 0"},
    {"{\"model\": {\"byte_fallback\": true, \"fuse_unk\": false}}", "xxdda", "0 13 13 0 3",
     "0 13 13 0 3"},
    {"{\"model\": {\"unk_token\": null}}", "xay", "3", "3"},
    {"{\"model\": {\"merges\": [], \"ignore_merges\": true}}", "abc", "9", "9"},
    {"{\"model\": {\"merges\": [[\"b\", \"c\"], [\"a\", \"bc\"]]}}", "abcab", "9 3 4", "9 3 4"},
    {"{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", "
     "\"prepend\": \"\\u2581\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, "
     "\"content\": \"\\u2581\"}]}}",
     "ab a", "7 8 11", "7 8 11"},
    {"{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", "
     "\"prepend\": \"\\u2581\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, "
     "\"content\": \"\\u2581\"}]}, \"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", "
     "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
     "\"special\": true}, {\"id\": 1, \"content\": \"<s>\", \"single_word\": false, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": false, \"special\": true}, {\"id\": 2, "
     "\"content\": \"</s>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
     "\"normalized\": false, \"special\": true}, {\"id\": 16, \"content\": \"<x>\", "
     "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
     "\"special\": true}]}",
     "ab<x> ab", "7 8 16 7 7 8", "7 8 16 7 7 8"},
    {"{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"single_word\": false, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": false, \"special\": true}, {\"id\": 1, "
     "\"content\": \"<s>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
     "\"normalized\": false, \"special\": true}, {\"id\": 2, \"content\": \"</s>\", "
     "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
     "\"special\": true}, {\"id\": 16, \"content\": \"<x>\", \"single_word\": false, \"lstrip\": "
     "true, \"rstrip\": false, \"normalized\": false, \"special\": false}]}",
     "a \n<x> b", "3 16 6 4", "3 16 6 4"},
    {"{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"single_word\": false, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": false, \"special\": true}, {\"id\": 1, "
     "\"content\": \"<s>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
     "\"normalized\": false, \"special\": true}, {\"id\": 2, \"content\": \"</s>\", "
     "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
     "\"special\": true}, {\"id\": 16, \"content\": \"<x>\", \"single_word\": false, \"lstrip\": "
     "false, \"rstrip\": true, \"normalized\": false, \"special\": false}]}",
     "a <x> \n b", "3 6 16 4", "3 6 16 4"},
    {"{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"single_word\": false, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": false, \"special\": true}, {\"id\": 1, "
     "\"content\": \"<s>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
     "\"normalized\": false, \"special\": true}, {\"id\": 2, \"content\": \"</s>\", "
     "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
     "\"special\": true}, {\"id\": 16, \"content\": \"<x>\", \"single_word\": false, \"lstrip\": "
     "true, \"rstrip\": true, \"normalized\": false, \"special\": false}]}",
     "a <x> <x> b", "3 16 16 4", "3 16 16 4"},
    {"{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"single_word\": false, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": false, \"special\": true}, {\"id\": 1, "
     "\"content\": \"<s>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
     "\"normalized\": false, \"special\": true}, {\"id\": 2, \"content\": \"</s>\", "
     "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
     "\"special\": true}, {\"id\": 8, \"content\": \"ab\", \"single_word\": true, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": false, \"special\": false}]}",
     "ab cab ab", "8 6 5 8 6 8", "8 6 5 8 6 8"},
    {"{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"single_word\": false, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": false, \"special\": true}, {\"id\": 1, "
     "\"content\": \"<s>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
     "\"normalized\": false, \"special\": true}, {\"id\": 2, \"content\": \"</s>\", "
     "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
     "\"special\": true}, {\"id\": 8, \"content\": \"ab\", \"single_word\": true, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": false, \"special\": false}]}",
     "\xC3\xA9"
     "ab \xC2\xB2"
     "ab _ab \xE2\x91\xA0"
     "ab",
     "0 8 6 0 8 6 0 8 6 0 8", "0 8 6 0 8 6 0 8 6 0 8"},
    {"{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"single_word\": false, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": false, \"special\": true}, {\"id\": 1, "
     "\"content\": \"<s>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
     "\"normalized\": false, \"special\": true}, {\"id\": 2, \"content\": \"</s>\", "
     "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
     "\"special\": true}, {\"id\": 8, \"content\": \"ab\", \"single_word\": false, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": true, \"special\": false}], \"normalizer\": "
     "{\"type\": \"Lowercase\"}}",
     "cAB", "5 8", "5 8"},
    {"{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
     "{\"id\": \"<s>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, "
     "{\"SpecialToken\": {\"id\": \"</s>\", \"type_id\": 0}}], \"pair\": [{\"Sequence\": {\"id\": "
     "\"A\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}], "
     "\"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [1], \"tokens\": [\"<s>\"]}, "
     "\"</s>\": {\"id\": \"</s>\", \"ids\": [2], \"tokens\": [\"</s>\"]}}}}",
     "ab", "8", "1 8 2"},
    {"{\"post_processor\": {\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\", "
     "\"add_prefix_space\": true, \"trim_offsets\": false, \"use_regex\": true}, {\"type\": "
     "\"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, "
     "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"SpecialToken\": {\"id\": \"</s>\", "
     "\"type_id\": 0}}], \"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, "
     "{\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}], \"special_tokens\": {\"<s>\": {\"id\": "
     "\"<s>\", \"ids\": [1], \"tokens\": [\"<s>\"]}, \"</s>\": {\"id\": \"</s>\", \"ids\": [2], "
     "\"tokens\": [\"</s>\"]}}}]}}",
     "a", "3", "1 3 2"},
    {"{\"post_processor\": {\"type\": \"RobertaProcessing\", \"sep\": [\"</s>\", 2], \"cls\": "
     "[\"<s>\", 1], \"trim_offsets\": true, \"add_prefix_space\": false}}",
     "ab", "8", "1 8 2"},
    {"{\"post_processor\": {\"type\": \"BertProcessing\", \"sep\": [\"</s>\", 2], \"cls\": "
     "[\"<s>\", 1]}}",
     "", "", "1 2"},
    {UNIGRAM, "abcab", "6 3 15", "6 3 15"},
    {UNIGRAM, "abzzc", "3 15 0 7", "3 15 0 7"},
    {UNIGRAM,
     "\xC3\xA9"
     "a",
     "0 3", "0 3"},
    {UNIGRAM, "xyzz", "14 0", "14 0"},
    {UNIGRAM, "xyzyx", "14 0", "14 0"},
    {UNIGRAM, "----------", "13 13 12 13", "13 13 12 13"},
    {UNIGRAM, "bb\xE2\x96\x81", "15 15 9", "15 15 9"},
    {UNIGRAM_BYTES,
     "a\xC3\xA9"
     "b\xC3\xA9\xC3\xA9",
     "3 10 11 15 10 11 10 11", "3 10 11 15 10 11 10 11"},
    {UNIGRAM_BYTES, "z\xC3\xA9", "0", "0"},
    {WORD_PIECE, "unaffable", "0", "0"},
    {WORD_PIECE, "unaffabl", "0", "0"},
    {WORD_PIECE, "a\xC3\xA9", "5 8", "5 8"},
    {WORD_PIECE, "\xC3\xA9\xC3\xA9", "7 8", "7 8"},
    {WORD_PIECE, "unaffaff", "1 2 2", "1 2 2"},
    {WORD_PIECE, "affx", "0", "0"},
    {WORD_LEVEL, "abc", "1", "1"},
    {WORD_LEVEL, "abcd", "0", "0"},
    {BPE_AFFIXES, "ab", "5", "5"},
    {BPE_AFFIXES, "abc", "10", "10"},
    {BPE_AFFIXES, "abb", "4 3", "4 3"},
    {BPE_AFFIXES, "a", "8", "8"},
    {BPE_AFFIXES, "abbcb", "11 3", "11 3"},
    {BPE_AFFIXES, "xab", "0 0 3", "0 0 3"},
    {"{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"single_word\": false, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": false, \"special\": true}, {\"id\": 16, "
     "\"content\": \"<x>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": true, "
     "\"normalized\": false, \"special\": false}, {\"id\": 20, \"content\": \" a\", "
     "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
     "\"special\": false}]}",
     "<x> ab", "16 20 4", "16 20 4"},
    {"{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"single_word\": false, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": false, \"special\": true}, {\"id\": 16, "
     "\"content\": \"<x>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": true, "
     "\"normalized\": false, \"special\": false}, {\"id\": 6, \"content\": \" \", \"single_word\": "
     "false, \"lstrip\": true, \"rstrip\": false, \"normalized\": false, \"special\": false}]}",
     "<x> ab", "16 8", "16 8"},
    {"{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"single_word\": false, \"lstrip\": "
     "false, \"rstrip\": false, \"normalized\": false, \"special\": true}, {\"id\": 20, "
     "\"content\": \"d\", \"single_word\": true, \"lstrip\": false, \"rstrip\": false, "
     "\"normalized\": false, \"special\": false}]}",
     "d db", "20 6 0 4", "20 6 0 4"},
    {"{\"normalizer\": {\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": false}, "
     "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", "
     "\"prepend_scheme\": \"first\", \"split\": true}}",
     "  ab", "8", "8"},
    {"{\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \" +\"}, \"content\": "
     "\"a\"}, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", "
     "\"prepend_scheme\": \"first\", \"split\": true}}",
     "  b", "8", "8"},
    {"{\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \" +\"}, \"content\": "
     "\"a\"}, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", "
     "\"prepend_scheme\": \"first\", \"split\": true}}",
     " b", "7 8", "7 8"},
    {"{\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"b\"}, \"pre_tokenizer\": {\"type\": "
     "\"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"String\": \"b\"}, "
     "\"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"Metaspace\", \"replacement\": "
     "\"\\u2581\", \"prepend_scheme\": \"first\", \"split\": true}]}}",
     "abc", "7 4 11 4 5", "7 4 11 4 5"},
    {"{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Strip\", "
     "\"strip_left\": true, \"strip_right\": true}, {\"type\": \"Replace\", \"pattern\": "
     "{\"String\": \"\"}, \"content\": \"c\"}]}}",
     " ", "", ""},
    {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", -1.0], [\"bc\", -2.0], [\"b\", "
     "-3.0]], \"byte_fallback\": false}, \"added_tokens\": []}",
     "abcb", "0 1 2", "0 1 2"},
};

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static json_t *parse(const char *text) {
    spar_error err;
    json_t *value;
    check(sp_json_parse(&value, text, strlen(text), "test", &err), &err);
    return value;
}

typedef struct stage {
    sp_arena arena;
    sp_step *steps;
    size_t n;
} stage;

static void stage_init(stage *s, sp_stage kind, const char *text) {
    spar_error err;
    json_t *value = parse(text);
    sp_arena_init(&s->arena);
    check(sp_steps_read(&s->steps, &s->n, kind, value, &s->arena, "test", &err), &err);
    json_decref(value);
}

static void stage_release(stage *s) {
    sp_steps_free(s->steps, s->n);
    sp_arena_release(&s->arena);
}

/* Words that hold text, joined by '|'. */
static void join(const sp_words *words, sp_str *out) {
    for (size_t i = 0; i < words->n; i++) {
        const sp_span *word = &words->items[i];
        if (word->n > 0) {
            sp_str_puts(out, out->len ? "|" : "");
            sp_str_append(out, words->base + word->begin, word->n);
        }
    }
}

static void test_splits(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof split_cases / sizeof split_cases[0]; i++) {
        const struct split_case *c = &split_cases[i];
        spar_error err;
        stage s;
        sp_words words = {.base = c->text};
        sp_words spare = {0};
        sp_str joined = SP_STR_INIT;
        stage_init(&s, SP_PRE_TOKENIZER, c->step);
        check(sp_words_add(&words, 0, strlen(c->text), true, &err), &err);
        check(sp_steps_split(s.steps, s.n, &words, &spare, NULL, &err), &err);
        join(&words, &joined);
        if (strcmp(sp_str_get(&joined), c->pieces) != 0) {
            fail_msg("%s on %s: expected %s, found %s", c->step, c->text, c->pieces,
                     sp_str_get(&joined));
        }
        sp_str_release(&joined);
        sp_words_release(&words);
        sp_words_release(&spare);
        stage_release(&s);
    }
}

static void test_normals(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof normal_cases / sizeof normal_cases[0]; i++) {
        const struct normal_case *c = &normal_cases[i];
        spar_error err;
        stage s;
        sp_str text = SP_STR_INIT;
        stage_init(&s, SP_NORMALIZER, c->step);
        sp_str_puts(&text, c->text);
        check(sp_steps_normalize(s.steps, s.n, &text, NULL, &err), &err);
        if (strcmp(sp_str_get(&text), c->normal) != 0) {
            fail_msg("%s on %s: expected %s, found %s", c->step, c->text, c->normal,
                     sp_str_get(&text));
        }
        sp_str_release(&text);
        stage_release(&s);
    }
}

static void test_decoders(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof decode_cases / sizeof decode_cases[0]; i++) {
        const struct decode_case *c = &decode_cases[i];
        spar_error err;
        stage s;
        sp_pieces tokens = {0};
        sp_str text = SP_STR_INIT;
        stage_init(&s, SP_DECODER, c->step);
        for (const char *at = c->tokens; *at; at += *at == '|') {
            size_t n = strcspn(at, "|");
            check(sp_pieces_add(&tokens, at, n, &err), &err);
            at += n;
        }
        check(sp_steps_decode(s.steps, s.n, &tokens, &text, &err), &err);
        if (strcmp(sp_str_get(&text), c->text) != 0) {
            fail_msg("%s on %s: expected %s, found %s", c->step, c->tokens, c->text,
                     sp_str_get(&text));
        }
        sp_str_release(&text);
        sp_pieces_release(&tokens);
        stage_release(&s);
    }
}

/* The small tokenizer with members replaced; those of "model" one by one. */
static json_t *changed(const char *changes) {
    json_t *root = parse(small_tokenizer);
    json_t *with = parse(changes);
    json_t *model = json_object_get(with, "model");
    if (model) {
        json_object_update(json_object_get(root, "model"), model);
        json_object_del(with, "model");
    }
    json_object_update(root, with);
    json_decref(with);
    return root;
}

static void expect_ids(const spar_tokenizer *t, const struct encode_case *c, unsigned flags,
                       const char *want) {
    spar_error err;
    int32_t *ids;
    size_t n;
    sp_str found = SP_STR_INIT;
    check(spar_tokenizer_encode(t, c->text, strlen(c->text), flags, &ids, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        sp_str_printf(&found, "%s%d", i ? " " : "", ids[i]);
    }
    if (strcmp(sp_str_get(&found), want) != 0) {
        fail_msg("%s on %s: expected %s, found %s", c->changes, c->text, want, sp_str_get(&found));
    }
    sp_str_release(&found);
    free(ids);
}

static void test_encodings(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof encode_cases / sizeof encode_cases[0]; i++) {
        const struct encode_case *c = &encode_cases[i];
        spar_error err;
        spar_tokenizer *t;
        json_t *root = changed(c->changes);
        check(sp_tokenizer_from_json(&t, root, "test", &err), &err);
        expect_ids(t, c, SPAR_TOKENIZE_NO_SPECIAL, c->ids);
        expect_ids(t, c, 0, c->special);
        spar_tokenizer_free(t);
        json_decref(root);
    }
}

/* A token that is found in normalised text is decoded from what it was found as. */
static void test_normalized_token(void **state) {
    (void)state;
    spar_error err;
    spar_tokenizer *t;
    char *text;
    const int32_t ids[] = {3, 9};
    json_t *root =
        changed("{\"added_tokens\": [{\"id\": 9, \"content\": \"abc\", \"normalized\": true}], "
                "\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"_\"}}");
    check(sp_tokenizer_from_json(&t, root, "test", &err), &err);
    check(spar_tokenizer_decode(t, ids, 2, false, &text, NULL, &err), &err);
    assert_string_equal(text, "a_abc");
    assert_string_equal(spar_tokenizer_token(t, 9), "abc");
    free(text);
    spar_tokenizer_free(t);
    json_decref(root);
}

/* What is refused, and a word that the message must hold. */
static const struct refusal {
    const char *changes;
    spar_status status;
    const char *word;
} refusals[] = {
    {"{\"added_tokens\": [], \"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\"]]}}",
     SPAR_FORMAT, "model.vocab[0]"},
    {"{\"added_tokens\": [], \"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 0]], "
     "\"unk_id\": 1}}",
     SPAR_FORMAT, "unk_id"},
    {"{\"model\": {\"type\": \"Syllables\"}}", SPAR_UNSUPPORTED, "Syllables"},
    {"{\"model\": {\"type\": \"Unigram\"}}", SPAR_FORMAT, "model.vocab"},
    {"{\"model\": {\"dropout\": 0.1}}", SPAR_UNSUPPORTED, "dropout"},
    {"{\"model\": {\"vocab\": 3}}", SPAR_FORMAT, "model.vocab"},
    {"{\"model\": {\"vocab\": {\"a\": -1}}}", SPAR_FORMAT, "-1"},
    {"{\"model\": {\"vocab\": {\"a\": 9000000000}}}", SPAR_FORMAT, "9000000000"},
    {"{\"model\": {\"vocab\": {\"a\": 4000000}}}", SPAR_FORMAT, "4000000"},
    {"{\"model\": {\"vocab\": {\"a\": 3, \"b\": 3}, \"merges\": []}}", SPAR_FORMAT, "id 3"},
    {"{\"model\": {\"merges\": [\"a b c\"]}}", SPAR_FORMAT, "merges[0]"},
    {"{\"model\": {\"merges\": [\"a c\"]}}", SPAR_FORMAT, "merges[0]"},
    {"{\"model\": {\"merges\": [[\"a\"]]}}", SPAR_FORMAT, "merges[0]"},
    {"{\"model\": {\"merges\": [[\"a\", 3]]}}", SPAR_FORMAT, "merges[0]"},
    {"{\"model\": {\"unk_token\": \"none\"}}", SPAR_FORMAT, "unk_token"},
    {"{\"added_tokens\": {}}", SPAR_FORMAT, "added_tokens"},
    {"{\"added_tokens\": [{\"id\": 3, \"content\": \"new\"}]}", SPAR_FORMAT, "id 3"},
    {"{\"added_tokens\": [{\"id\": 3}]}", SPAR_FORMAT, "content"},
    {"{\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAA\"}}",
     SPAR_FORMAT, "precompiled_charsmap"},
    {"{\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"A-==\"}}",
     SPAR_FORMAT, "base64"},
    {"{\"normalizer\": {\"type\": \"Unaccent\"}}", SPAR_UNSUPPORTED, "Unaccent"},
    {"{\"pre_tokenizer\": {\"type\": \"Syllables\"}}", SPAR_UNSUPPORTED,
     "pre_tokenizer: type Syllables"},
    {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"a(\"}, \"behavior\": "
     "\"Isolated\"}}",
     SPAR_FORMAT, "a("},
    {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"[a&&b]??\"}, "
     "\"behavior\": "
     "\"Isolated\"}}",
     SPAR_UNSUPPORTED, "class"},
    {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\": "
     "\"Sideways\"}}",
     SPAR_UNSUPPORTED, "Sideways"},
    {"{\"decoder\": {\"type\": \"Rot13\"}}", SPAR_UNSUPPORTED, "decoder: type Rot13"},
    {"{\"post_processor\": {\"type\": \"RobertaProcessing\", \"sep\": [\"x\", 99], \"cls\": "
     "[\"y\", 1]}}",
     SPAR_FORMAT, "99"},
    {"{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
     "{\"id\": \"q\"}}], \"special_tokens\": {}}}",
     SPAR_FORMAT, "q has no ids"},
    {"{\"post_processor\": {\"type\": \"Sequence\", \"processors\": [{\"type\": "
     "\"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}, {\"Sequence\": "
     "{\"id\": \"A\"}}], \"special_tokens\": {\"<s>\": {\"ids\": [1]}}}, {\"type\": "
     "\"BertProcessing\", \"sep\": [\"</s>\", 2], \"cls\": [\"<s>\", 1]}]}}",
     SPAR_UNSUPPORTED, "BertProcessing"},
};

static void test_refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *r = &refusals[i];
        spar_error err;
        spar_tokenizer *t = NULL;
        json_t *root = changed(r->changes);
        spar_status status = sp_tokenizer_from_json(&t, root, "tokenizer.json", &err);
        if (status != r->status || !strstr(err.message, r->word) ||
            strncmp(err.message, "tokenizer.json: ", 16) != 0) {
            fail_msg("%s: found status %d, %s", r->changes, (int)status,
                     status == SPAR_OK ? "accepted" : err.message);
        }
        assert_null(t);
        json_decref(root);
    }
}

/* A model without an unknown token names the word that it cannot take. */
static void test_unknown(void **state) {
    (void)state;
    static const char *const models[] = {
        "{\"added_tokens\": [], \"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", -1]]}}",
        "{\"added_tokens\": [], \"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}}",
        "{\"added_tokens\": [], \"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}}}"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        spar_error err;
        spar_tokenizer *t;
        int32_t *ids;
        size_t n;
        json_t *root = changed(models[i]);
        json_object_del(json_object_get(root, "model"), "unk_token");
        check(sp_tokenizer_from_json(&t, root, "test", &err), &err);
        assert_int_equal(spar_tokenizer_encode(t, "q", 1, 0, &ids, &n, &err), SPAR_INVALID);
        assert_non_null(strstr(err.message, "found q"));
        spar_tokenizer_free(t);
        json_decref(root);
    }
}

/* Loading with every allocation failing in turn: an error each time, and nothing is lost. */
static void test_out_of_memory(void **state) {
    (void)state;
    json_t *root = parse(small_tokenizer);
    spar_status status = SPAR_NO_MEMORY;
    long k = 1;
    for (; status != SPAR_OK && k < 1000; k++) {
        spar_error err;
        spar_tokenizer *t = NULL;
        sp_mem_fail_at(k);
        status = sp_tokenizer_from_json(&t, root, "test", &err);
        sp_mem_fail_at(0);
        if (status != SPAR_OK && status != SPAR_NO_MEMORY) {
            fail_msg("allocation %ld: %s", k, err.message);
        }
        spar_tokenizer_free(t);
    }
    assert_true(k > 5 && k < 1000);
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_splits),        cmocka_unit_test(test_normals),
        cmocka_unit_test(test_decoders),      cmocka_unit_test(test_encodings),
        cmocka_unit_test(test_refusals),      cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_normalized_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
