/* The template language against what Python's jinja2 3.1 gives, and what it must refuse. */
#include <jansson.h>
#include <setjmp.h>
#include <stdbool.h>

#include <cmocka.h>

#include "spar/chat_template.h"
#include "support.h"

/* Rendered by ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True) with loop
 * controls. */
static const struct {
    const char *source, *text;
} good[] = {
    {"{{ -0.1 // -7 }} {{ 0.1 // -7 }} {{ -0.0 // 7 }} {{ 7.5 // 2 }} {{ -7.5 // 2 }}",
     "0.0 -1.0 -0.0 3.0 -4.0"},
    {"{{ -0.1|round(method='ceil') }} {{ 'inf'|int(7) }} {{ '1e3'|int }} {{ "
     "'STRA\303\237E'.casefold() }} "
     "{{ '\303\237a \307\206'.title() }} {{ '\303\237a'.capitalize() }} {{ '\303\237a'|title }}",
     "0.0 7 1000 strasse Ssa \307\205 Ssa SSa"},
    {"{{ 1 + 2 * 3 ** 2 }} {{ -2 ** 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ "
     "1e20 }} {{ 0.1 + 0.2 }} {{ 1.0 }} {{ 1e-7 }} {{ 123456789012345680.0 }}",
     "19 4 3 -4 2 3.5 1e+20 0.30000000000000004 1.0 1e-07 1.2345678901234568e+17"},
    {"{{ 'a' 'b' ~ 1 ~ none ~ true ~ 1.5 }} {{ \"x\" * 3 }} {{ [1, 'a\"', \"b'\", none, true, 2.0, "
     "{'k': (1,)}] }}",
     "ab1NoneTrue1.5 xxx [1, 'a\"', \"b'\", None, True, 2.0, {'k': (1,)}]"},
    {"{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 'a' in 'abc' }} {{ 4 not in [1,2] }} {{ not true or false "
     "}}",
     "True False True True False"},
    {"{{ 'yes' if x is defined }}|{{ 'a' if false }}|{{ x }}|{{ x is undefined }}", "|||True"},
    {"{{ 'hello'[1:3] }} {{ 'hello'[::-1] }} {{ [1,2,3,4][-2:] }} {{ 'h\303\251llo "
     "w\303\266rld'[1:8:2] }} {{ [1,2,3][10:] }} {{ 'abc'[-1] }} {{ [1,2,3,4,5][::-2] }}",
     "el olleh [3, 4] \303\251l \303\266 [] c [5, 3, 1]"},
    {"{% for i in range(3) %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first "
     "}}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ "
     "loop.cycle('a','b') }}{{ loop.changed(i // 2) }};{% else %}none{% endfor %}",
     "103TrueFalse31aTrue;212FalseFalse302bFalse;321FalseTrue31aTrue;"},
    {"{% for a, b in {'x': 1, 'y': 2}.items() if b > 1 %}{{ a }}={{ b }} {{ loop.length }}{% "
     "endfor %}{% for x in [] %}a{% else %}empty{% endfor %}",
     "y=2 1empty"},
    {"{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% "
     "endif %}{{ i }}{% endfor %}",
     "0134"},
    {"{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% set q = 1 "
     "%}{% endfor %}{{ ns.a }}{{ q }}",
     "4"},
    {"{% set x = 0 %}{% for i in range(3) %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}", "1110"},
    {"{% macro m(a, b=2, c='z') %}[{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}]{% endmacro %}{{ "
     "m(1) }}{{ m(1, 3, c='q', d=4) }}{{ m(1,2,3,4,5) }}",
     "[12z(){}][13q(){'d': 4}][123(4, 5){}]"},
    {"{% macro w(t) %}<{{ t }}>{{ caller('x') }}</{{ t }}>{% endmacro %}{% call(v) w('b') %}in {{ "
     "v }}{% endcall %}",
     "<b>in x</b>"},
    {"{% filter upper %}abc {{ 'd' }}{% endfilter %}{% set b | trim %}  hi {% endset %}[{{ b }}]",
     "ABC D[hi]"},
    {"{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}", "3"},
    {"{% raw %}{{ not }} {% if %}{% endraw %}|{# c #}|{%- raw -%}  x  {%- endraw -%}  |",
     "{{ not }} {% if %}||x|"},
    {"{% for i in [[1,[2]],3] recursive %}{% if i is iterable %}({{ loop(i) }}){% else %}{{ i "
     "}}@{{ loop.depth }}{% endif %}{% endfor %}",
     "(1@2(2@3))3@1"},
    {"{{ [3,1,2]|sort }} {{ ['b','A','c']|sort }} {{ ['b','A']|sort(case_sensitive=true, "
     "reverse=true) }} {{ [1,2,1]|unique|list }} {{ [1,2,3]|sum }} {{ [1,5,2]|max }} {{ []|min }}",
     "[1, 2, 3] ['A', 'b', 'c'] ['b', 'A'] [1, 2] 6 5 "},
    {"{{ [{'a':1},{'a':2}]|map(attribute='a')|join(',') }} {{ [1,2,3,4]|select('even')|list }} {{ "
     "[1,2,3]|reject('gt', 1)|list }} {{ [{'r':'u'},{'r':'a'}]|selectattr('r','equalto','u')|list "
     "}} {{ ['a','b']|map('upper')|list }}",
     "1,2 [2, 4] [1] [{'r': 'u'}] ['A', 'B']"},
    {"{{ {'b':1,'a':[1,2,{'x':none}],'\303\251':'<&>\"'}|tojson }} {{ "
     "{'b':1,'a':2}|tojson(sort_keys=true) }} {{ "
     "'\303\251\\u2028\360\237\230\200'|tojson(ensure_ascii=true) }}",
     "{\"b\": 1, \"a\": [1, 2, {\"x\": null}], \"\303\251\": \"<&>\\\"\"} {\"a\": 2, \"b\": 1} "
     "\"\\u00e9\\u2028\\ud83d\\ude00\""},
    {"{{ {'b':1,'a':[1,{}],'c':[]}|tojson(indent=2) }}{{ [1,2]|tojson(separators=(',',':')) }} {{ "
     "[1.0,1e100,true]|tojson }}",
     "{\n  \"b\": 1,\n  \"a\": [\n    1,\n    {}\n  ],\n  \"c\": []\n}[1,2] [1.0, 1e+100, true]"},
    {"{{ 'hello world'|title }} {{ 'HELLO'|capitalize }} {{ 'a b'|replace(' ', '_') }} {{ "
     "'abc'|first }}{{ 'abc'|last }}{{ 'abc'|length }}{{ 'abc'|reverse }} {{ '  x '|trim }}| {{ "
     "'xxaxx'|trim('x') }}",
     "Hello World Hello a_b ac3cba x| a"},
    {"{{ '42'|int }} {{ 'x'|int(7) }} {{ '3.7'|int }} {{ '3.5'|float }} {{ -3|abs }} {{ "
     "2.567|round(2) }} {{ 2.5|round }} {{ 3.5|round }} {{ 2.1|round(0,'ceil') }} {{ "
     "'ff'|int(0,16) }} {{ true|int }} {{ 5|round }}",
     "42 7 3 3.5 3 2.57 2.0 4.0 3.0 255 1 5"},
    {"{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a\\n\\nb'|indent('> ', "
     "blank=true) }}",
     "a\n    b\n\n    c|  a\n  b|a\n> \n> b"},
    {"{{ '<a>'|e }} {{ ('<a>'|safe) + '<b>' }} {{ ('<a>'|safe) ~ '<b>' }} {{ '<b>' + ('<a>'|safe) "
     "}} {{ ['<', '>'|safe]|join('&') }}",
     "&lt;a&gt; <a>&lt;b&gt; <a><b> &lt;b&gt;<a> <&>"},
    {"{{ [1,2,3,4,5]|batch(2)|list }} {{ [1,2,3,4,5]|batch(2, 0)|list }} {{ "
     "[1,2,3,4,5]|slice(2)|list }} {{ {'b':1,'A':2}|dictsort }} {{ "
     "{'b':1,'a':2}|dictsort(by='value', reverse=true) }}",
     "[[1, 2], [3, 4], [5]] [[1, 2], [3, 4], [5, 0]] [[1, 2, 3], [4, 5]] [('A', 2), ('b', 1)] "
     "[('a', 2), ('b', 1)]"},
    {"{% for g, l in [{'c':'x','n':1},{'c':'y','n':2},{'c':'X','n':3}]|groupby('c') %}{{ g }}:{{ "
     "l|map(attribute='n')|list }} {% endfor %}",
     "x:[1, 3] y:[2] "},
    {"{{ '%s is %d %5.2f %r %x %%' % ('a', 3, 2.5, 'q', 255) }} {{ '%s'|format('z') }} {{ '%(a)s' "
     "% {'a': 1} }} {{ '%5s|%-5s|%05d' % ('a', 'b', 42) }}",
     "a is 3  2.50 'q' ff % z 1     a|b    |00042"},
    {"{{ '{} {1} {0!r}'.format('a', 'b') if false else '{1} {0!r} {x:>5} {y:.2f} "
     "{z:,}'.format('a', 'b', x='q', y=3.14159, z=1234567) }}",
     "b 'a'     q 3.14 1,234,567"},
    {"{{ 'one two  three'|wordcount }} {{ 'ab'|center(6) }}| {{ 'foo bar baz qux'|truncate(9) }} "
     "{{ 'foo bar baz qux'|truncate(9, true) }} {{ '<p>a  <b>c</b></p>'|striptags }} {{ 'a "
     "b/c?d=\303\251'|urlencode }} {{ {'a b': 'c&d'}|urlencode }}",
     "3   ab  | foo... foo ba... a c a%20b/c%3Fd%3D%C3%A9 a+b=c%26d"},
    {"{{ 'a,b,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a,b,c'.rsplit(',', 1) }} {{ "
     "'a,b,c'.split(',', 1) }} {{ 'a\\nb\\r\\nc'.splitlines() }} {{ ' a b  c '.split(none, 1) }} "
     "{{ ' a b  c '.rsplit(none, 1) }}",
     "['a', 'b', 'c'] ['a', 'b'] ['a,b', 'c'] ['a', 'b,c'] ['a', 'b', 'c'] ['a', 'b  c '] [' a b', "
     "'c']"},
    {"{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x','c')) }} {{ 'abcabc'.find('c') }} {{ "
     "'abcabc'.rfind('c') }} {{ 'aXbX'.count('X') }} {{ '\303\251ab'.find('b') }} {{ "
     "'abc'.find('z') }} {{ 'abc'.index('c') }}",
     "True True 2 5 2 2 -1 2"},
    {"{{ 'aB'.swapcase() }} {{ \"they're bill's\"|title }} {{ \"they're bill's\".title() }} {{ "
     "'abc'.isalpha() }} {{ '12'.isdigit() }} {{ ' '.isspace() }} {{ 'x'.join(['a','b']) }} {{ "
     "'pre_x'.removeprefix('pre_') }} {{ 'x.py'.removesuffix('.py') }} {{ 'a-b'.partition('-') }} "
     "{{ '5'.zfill(3) }} {{ '-5'.zfill(4) }}",
     "Ab They're Bill's They'Re Bill'S True True True axb x x ('a', '-', 'b') 005 -005"},
    {"{{ dict.fromkeys(['a','b']) }} {{ {}.fromkeys('ab', 1) }} {{ (2.0).is_integer() }} {{ "
     "'a\tb\nccc\td'.expandtabs(4)|replace(' ', '.') }} {{ 'a\tb'.expandtabs(0) }} {{ "
     "'a\n'.isprintable() }} {{ ''.isprintable() }}",
     "{'a': None, 'b': None} {'a': 1, 'b': 1} True a...b\nccc.d ab False True"},
    {"<x{{ {'id': 1, 'class': 'a<\"b', 'no': none}|xmlattr }}>{{ {'a': 2}|xmlattr(false) }}",
     "<x id=\"1\" class=\"a&lt;&#34;b\">a=\"2\""},
    {"{% for g in [{'r': 'u', 'n': 1}, {'r': 'a', 'n': 2}, {'r': 'u', 'n': 3}]|groupby('r') %}"
     "{{ g.grouper }}:{{ g.list|map(attribute='n')|join(',') }};{{ g[0] }} {% endfor %}",
     "a:2;a u:1,3;u "},
    /* a name belongs to the scope that stores it first, from the start of that scope */
    {"{% set x %}<{{ bos_token }}>{% endset %}{{ x }}{% set bos_token %}[{{ bos_token }}]{% endset "
     "%}{{ bos_token }}",
     "<>[]"},
    {"{% for i in [1] %}({{ bos_token }}){% endfor %}{% set bos_token = 'y' %}{{ bos_token }}",
     "()y"},
    {"{% macro m() %}({{ bos_token }}){% endmacro %}{{ m() }}{% if true %}{% set bos_token = 'y' "
     "%}{% endif %}{{ m() }}",
     "(<s>)(y)"},
    {"{% macro m(bos_token=bos_token, b=c, c=1) %}[{{ bos_token }}{{ b }}{{ c }}]{% endmacro %}{{ "
     "m() }}{{ m(c=2) }}",
     "[1][22]"},
    {"{% for i in [1, 2, 3] %}{{ i }}{% set x %}a{% if i == 2 %}{% break %}{% endif %}{% endset "
     "%}{{ x }}{% endfor %}",
     "1a2"},
    {"{% for i in [1, 2, 3] %}{% filter upper %}a{% if i == 2 %}{% continue %}{% endif %}b{% "
     "endfilter %}{% endfor %}",
     "ABAB"},
    {"{{ [none, none]|sort }} {{ {}|truncate(5)|tojson }} {{ '\304\260'.lower() }}",
     "[None, None] {} i\314\207"},
    {"{{ 'abc'.replace('', '-') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'xyx'.strip('x') }} {{ "
     "'xyx'.lstrip('x') }} {{ 'xyx'.rstrip('x') }}",
     "-a-b-c- bba y yx xy"},
    {"{{ {'a':1}.get('a') }} {{ {'a':1}.get('b') }} {{ {'a':1}.get('b', 2) }} {{ {'a':1}.keys() }} "
     "{{ {'a':1}.values()|list }} {{ {'a':1}.items() }} {{ {'items': 5}['items'] }} {{ {'x': {'y': "
     "2}}.x.y }}",
     "1 None 2 dict_keys(['a']) [1] dict_items([('a', 1)]) 5 2"},
    {"{{ 1 is number }} {{ true is number }} {{ 1 is integer }} {{ true is integer }} {{ 1.0 is "
     "float }} {{ 'a' is string }} {{ {} is mapping }} {{ [] is sequence }} {{ {}.keys() is "
     "sequence }} {{ none is none }} {{ 4 is divisibleby 2 }} {{ 3 is odd }} {{ 2 is in [1,2] }} "
     "{{ 1 is sameas 1 }} {{ 'trim' is filter }} {{ 'odd' is test }} {{ range is callable }} {{ 1 "
     "is eq 1 }} {{ 'A' is upper }} {{ [1] is iterable }} {{ 1 is boolean }}",
     "True True True False True True True True False True True True True True True True True True "
     "True True False"},
    {"{{ 1 == 1.0 }} {{ true == 1 }} {{ [1] == [1.0] }} {{ 'a' < 'b' }} {{ [1,2] < [1,3] }} {{ "
     "{'a':1} == {'a':1} }} {{ none == false }}",
     "True True True True True True False"},
    {"{{ x|default('d') }} {{ ''|default('d') }} {{ ''|default('d', true) }} {{ none|default('d') "
     "}} {{ x.y|default('q') if false else 'ok' }}",
     "d  d None ok"},
    {"{{ (1,2) + (3,) }} {{ [1] + [2] }} {{ () }} {{ (1,) }} {{ [1,2]*2 }} {{ dict(a=1, b=2) }} {{ "
     "range(5)|list }} {{ range(2,10,3)|list }} {{ range(3) }} {{ range(5,0,-2)|list }}",
     "(1, 2, 3) [1, 2] () (1,) [1, 2, 1, 2] {'a': 1, 'b': 2} [0, 1, 2, 3, 4] [2, 5, 8] range(0, 3) "
     "[5, 3, 1]"},
    {"{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}{% set (d, (e, f)) = (1, (2, 3)) "
     "%}{{ f }}",
     "12(1, 2)3"},
    {"{% set j = joiner('; ') %}{{ j() }}a{{ j() }}b{% set c = cycler('x','y') %}{{ c.next() }}{{ "
     "c.next() }}{{ c.next() }}{{ c.current }}",
     "a; bxyxy"},
    {"{{ \"a\\tb\\x41\\u00e9\\\\n\\'\" }} {{ 'a\\qb' }} {{ ['a\\tb', '\303\251', '\\x00', "
     "'\\u200b'] }}",
     "a\tbA\303\251\\n' a\\qb ['a\\tb', '\303\251', '\\x00', '\\u200b']"},
    {"{{ 0x1F }} {{ 1_000 }} {{ 0b11 }} {{ 0o17 }} {{ 1.5e3 }} {{ 10 % 3.5 }} {{ 2 ** -1 }} {{ "
     "-7.5 // 2 }} {{ 7 // 2.0 }}",
     "31 1000 3 15 1500.0 3.0 0.5 -4.0 3.0"},
    {"{% if 0 %}a{% elif '' %}b{% elif [0] %}c{% else %}d{% endif %}", "c"},
    {"{{ [1,2,3]|first }} {{ []|first }} {{ {'a':1}|list }} {{ {'a':1}|items|list }} {{ "
     "{'a':1}|length }} {{ 'abc'|list }} {{ [[1,2],[3]]|sum(start=[]) }}",
     "1  ['a'] [('a', 1)] 1 ['a', 'b', 'c'] [1, 2, 3]"},
    {"{{ '' ~ undefined_thing }} {{ [undefined_thing] }} {{ undefined_thing|list }} {{ "
     "undefined_thing == other_undefined }}",
     " [Undefined] [] True"},
    {"{% print 1, 'a' %} {{ 1, 2 }} {{ 'a' , }}", "1a (1, 2) ('a',)"},
    {"{{ {'a': 1, 'b': [1, 2]} }} {{ {1: 'x', none: 2} }} {{ {'a':1}|string }} {{ 'x' is not none "
     "}} {{ ('a' ~ 'b')|upper }} {{ -1|abs }} {{ not 1 == 2 }}",
     "{'a': 1, 'b': [1, 2]} {1: 'x', None: 2} {'a': 1} True AB 1 True"},
    {"{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
     "54321"},
    {"{% set messages = [{'role':'a'}] %}{{ messages[0].role }}{{ messages[0]['role'] }}{{ "
     "messages[5] }}{{ messages[-1]['x'] }}{{ messages|length }}",
     "aa1"},
    {"{{ '\303\237'.upper() }} {{ '\303\200\303\211'|lower }} {{ '\303\261'|upper }} {{ "
     "'\303\251'|length }} {{ '\346\227\245\346\234\254\350\252\236'[1] }} {{ "
     "'\346\227\245\346\234\254\350\252\236'|reverse }} {{ '\303\234n\303\257code'|capitalize }}",
     "SS \303\240\303\251 \303\221 1 \346\234\254 \350\252\236\346\234\254\346\227\245 "
     "\303\234n\303\257code"},
    {"{{ [1, 2, 3] | join(' ') | upper ~ 'x' }} {{ 1 if true else 2 if false else 3 }}",
     "1 2 3x 1"},
    {"{{ 3.0 * 2 }} {{ 6 / 3 }} {{ 1e16 }} {{ 1e15 }} {{ 123456.789 }} {{ 1/3 }} {{ "
     "100000000000000000000.0 }} {{ 5e-5 }} {{ 0.0001 }} {{ -0.0 }}",
     "6.0 2.0 1e+16 1000000000000000.0 123456.789 0.3333333333333333 1e+20 5e-05 0.0001 -0.0"},
    {"{{ [1,2,3].index(2) }} {{ [1,1].count(1) }} {{ 'a'.foo }} {{ {}.foo }} {{ [].append }} {{ "
     "'x'.__class__ }}",
     "1 2    "},
    {"{% for c in 'h\303\251y' %}{{ c }}-{% endfor %}{% for k in {'a':1,'b':2} %}{{ k }}{% endfor "
     "%}{% for x in nothing %}z{% endfor %}",
     "h-\303\251-y-ab"},
    {"{{ 'a' if 1 is odd and 2 is even }} {{ 1 is not odd }} {{ 2 is divisibleby(2) and true }} {{ "
     "'x' in ['x'] and 'y' not in 'x' }}",
     "a False True True"},
    {"{{ [3,1]|sort|first }} {{ "
     "[{'a':{'b':2}},{'a':{'b':1}}]|sort(attribute='a.b')|map(attribute='a.b')|list }} {{ "
     "[{'a':1}]|map(attribute='z', default='q')|list }}",
     "1 [1, 2] ['q']"},
    {"{% set x %}a{% set y = 5 %}b{% endset %}{{ x }}{{ y }}", "ab"},
    {"{{ 'abc' ~ 1 + 2 if false else 'k' }} {{ 10 - 2 - 3 }} {{ 2 ** 3 ** 2 }} {{ 'a' ~ 'b' == "
     "'ab' }}",
     "k 5 64 True"},
    {"{{ range(1) is sequence }} {{ 'a'|attr('upper') is callable }} {{ loop is defined }} {{ "
     "[none, 1]|reject('none')|list }} {{ none|string }} {{ none|list if false }}",
     "True True False [1] None "},
    {"a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"},
    {"a\n  {%- if true -%}\n  b\n  {%- endif %}\nc\n\n", "abc\n"},
    {"  {% if true +%}\n x\n  {%+ endif %}\ny", "\n x\n  y"},
    {"{# c #}\n  {# d #}\nx {# e #}\ny{#- f -#}  z", "x yz"},
    {"x\n  {{ 1 }}\n  {{- 2 -}}\n  y", "x\n  12y"},
    {"{% raw -%}  a {{ b }}\n {%- endraw %}\nq", "a {{ b }}q"},
    {"a\r\nb\rc\n", "a\nb\nc"},
    {"  {% set x = 1 %}  {{ x }}\n{% for i in [1,2] %}\n  {{ i }}\n{% endfor %}\nend",
     "  1\n  1\n  2\nend"},
    {"{% if true %}\n\n{% endif %}\n\n", "\n"},
    {"{%- for m in ['a','b'] %}\n{{- m }}\n{%- endfor -%}  \n z", "abz"},
    {"{{ {'a': {'b': 1}}['a']['b'] }}{{ {'x':{}} }}", "1{'x': {}}"},
    {"{% block foo %}x{% endblock foo %}y", "xy"},
    {"{%if true%}{{'a'}}{%endif%}", "a"},
    {"{{ '}}' }} {{ \"{%\" }}", "}} {%"},
    {"{% for i in [1] %}\n    a\n    {%- if loop.first %}\n    b\n    {% endif %}\n{% endfor %}",
     "    a    b\n"},
    {"\n\n  {%- set a = 'x' %}\n\n{{ a }}\n\n", "\nx\n"},
    {"{{ 'multi\nline' }}\n  {#- x\n y -#}\n\n b", "multi\nlineb"},
    {"{% set x %}\n  a\n{% endset %}\n[{{ x }}]", "[  a\n]"},
    {"{% macro a() -%}\n  hi\n{%- endmacro %}\n{{ a() }}|{{ a() }}", "hi|hi"},
    {"a {%+ if true %} b {% endif -%} \n c", "a  b c"},
    {"\t{% if 1 %}\tx{% endif %}\n \302\240{% if 1 %}y{% endif %}", "\txy"},
};

static const struct {
    const char *source;
    spar_status code;
} bad[] = {
    {"{{ 1e20|int }}", SPAR_LIMIT},
    {"{{ '99999999999999999999'|int }}", SPAR_LIMIT},
    {"{{ [] is filter }}", SPAR_INVALID},
    {"{{ (1, []) in {} }}", SPAR_INVALID},
    {"{{ [(1, {})]|unique|list }}", SPAR_INVALID},
    {"{{ x.y }}", SPAR_INVALID},
    {"{{ 1 + 'a' }}", SPAR_INVALID},
    {"{{ 'a' + 1 }}", SPAR_INVALID},
    {"{% for x in none %}{% endfor %}", SPAR_INVALID},
    {"{{ none|length }}", SPAR_INVALID},
    {"{{ foo() }}", SPAR_INVALID},
    {"{{ 'a'|nofilter }}", SPAR_INVALID},
    {"{{ 1 is notest }}", SPAR_INVALID},
    {"{% if %}", SPAR_FORMAT},
    {"{% endif %}", SPAR_FORMAT},
    {"{% for x in y %}", SPAR_FORMAT},
    {"{{ 1 + }}", SPAR_FORMAT},
    {"{{ (1 }}", SPAR_FORMAT},
    {"{{ 'abc }}", SPAR_FORMAT},
    {"{% foo %}", SPAR_FORMAT},
    {"{{ 1", SPAR_FORMAT},
    {"{# x", SPAR_FORMAT},
    {"{% raw %}x", SPAR_FORMAT},
    {"{{ 1 // 0 }}", SPAR_INVALID},
    {"{{ [].append(1) }}", SPAR_INVALID},
    {"{{ {}.update({}) }}", SPAR_INVALID},
    {"{{ ''.__class__.__mro__ }}", SPAR_INVALID},
    {"{{ raise_exception('no') }}", SPAR_INVALID},
    {"{{ 'a' in 5 }}", SPAR_INVALID},
    {"{{ 1 < 'a' }}", SPAR_INVALID},
    {"{{ undefined_x + 1 }}", SPAR_INVALID},
    {"{{ {[]: 1} }}", SPAR_INVALID},
    {"{% set x.y = 1 %}", SPAR_INVALID},
    {"{% break %}", SPAR_FORMAT},
    {"{{ 1 is is 2 }}", SPAR_INVALID},
    {"{% macro m(a=1, b) %}{% endmacro %}", SPAR_FORMAT},
    {"{{ m(a=1, 2) }}", SPAR_FORMAT},
    {"{{ namespace(1) }}", SPAR_INVALID},
    {"{% set a, b = [1] %}", SPAR_INVALID},
    {"{{ 'a'.index('z') }}", SPAR_INVALID},
    {"{{ {1:2}|tojson|fromjson }}", SPAR_INVALID},
    {"{{ [undefined_x]|tojson }}", SPAR_INVALID},
    {"{{ loop.index }}", SPAR_INVALID},
    {"{{ a b }}", SPAR_FORMAT},
    {"{{ 'x' 5 }}", SPAR_FORMAT},
    {"{{ 012 }}", SPAR_FORMAT},
    {"{{ ] }}", SPAR_FORMAT},
    {"{{ {'a' 1} }}", SPAR_FORMAT},
    {"{{ -'a' }}", SPAR_INVALID},
    {"{{ 1() }}", SPAR_INVALID},
    {"{% if x %}{% else %}{% elif y %}{% endif %}", SPAR_FORMAT},
    {"{{ [1,2,3]|select('even')|length }}", SPAR_INVALID},
    {"{{ 'abc'.split('') }}", SPAR_INVALID},
    {"{% include 'x' %}", SPAR_UNSUPPORTED},
    {"{{ range(10)|map('nope')|list }}", SPAR_INVALID},
    {"{{ 'a'.foo.bar }}", SPAR_INVALID},
    {"{{ range(3).foo[1:] }}", SPAR_INVALID},
    {"{% set x = 5 %}{{ x[1:] }}", SPAR_INVALID},
    {"{{ 'abc'['a':] }}", SPAR_INVALID},
    {"{{ 5|indent }}", SPAR_INVALID},
    {"{{ 5|truncate }}", SPAR_INVALID},
    {"{{ ['a long one', 'list']|truncate(1, true, '', 0) }}", SPAR_INVALID},
    {"{% set x = -1 %}{{ x ** 0.5 }}", SPAR_INVALID},
    {"{{ 10.0 ** 400 }}", SPAR_INVALID},
    {"{{ 0 ** -1 }}", SPAR_INVALID},
    {"{% filter length %}abc{% endfilter %}", SPAR_INVALID},
};

static const char *const hostile[] = {
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ range(10 ** 9)|list }}",
    "{{ 'x' * 10 ** 9 }}",
    "{{ ['x'] * 10 ** 9 }}",
    "{{ 10 ** 100 }}",
    "{{ 9223372036854775807 + 1 }}",
    "{{ 99999999999999999999 }}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}"
    "{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}"
    "{% endfor %}",
    "{% set s = 'x' * 1000000 %}{% for i in range(1000) %}{{ s }}{% endfor %}",
    "{% set s = 'x' * 20000 %}{{ s.replace('x', s) }}",
    "{% set s = 'x' * 20000 %}{{ s.replace('', s) }}",
    "{% set s = 'x' * 20000 %}{{ s|indent(width=s)|replace('x', s) }}",
    "{{ [1, 2]|tojson(indent='x' * 40000000) }}",
    "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
    "{% for i in [[[1]]] recursive %}{{ loop([i]) }}{% endfor %}",
    "{{ 'a'.center(10 ** 12) }}",
    "{{ (['a' * 1000000] * 1000)|join }}",
    "{% macro a(f) %}{% call b() %}{{ a(f) }}{% endcall %}{% endmacro %}{% macro b() %}"
    "{{ caller() }}{% endmacro %}{{ a(1) }}",
};

static spar_status render_bytes(const char *source, size_t length, char **text, spar_error *err) {
    spar_template *t = NULL;
    json_t *messages = json_array();
    const spar_render_options options = {.bos = "<s>", .now = "2026-11-23"};
    size_t n = 0;
    *text = NULL;
    spar_status status = spar_template_compile(&t, source, length, "test", err);
    if (status == SPAR_OK) {
        status = spar_template_render(t, messages, &options, text, &n, err);
    }
    spar_template_free(t);
    json_decref(messages);
    return status;
}

static spar_status render(const char *source, char **text, spar_error *err) {
    return render_bytes(source, strlen(source), text, err);
}

static void renders_as_jinja2(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        spar_error err = {0};
        char *text = NULL;
        if (render(good[i].source, &text, &err) != SPAR_OK) {
            fail_msg("%s\n%s", good[i].source, err.message);
        }
        assert_string_equal(text, good[i].text);
        free(text);
    }
}

static void refuses(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        spar_error err = {0};
        char *text = NULL;
        const spar_status status = render(bad[i].source, &text, &err);
        if (status != bad[i].code || strncmp(err.message, "test:1: ", 8) != 0) {
            fail_msg("%s: %s, %s", bad[i].source, spar_status_name(status), err.message);
        }
        assert_null(text);
    }
}

static void bounds(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        spar_error err = {0};
        char *text = NULL;
        const spar_status status = render(hostile[i], &text, &err);
        if (status != SPAR_LIMIT) {
            fail_msg("%s: %s, %s", hostile[i], spar_status_name(status), err.message);
        }
    }
}

/* open n times, middle, close n times: nesting that only the depth can stop. */
static spar_status nested(const char *open, const char *middle, const char *close, size_t n) {
    const bool block = strncmp(open, "{%", 2) == 0;
    char *source = calloc(n * (strlen(open) + strlen(close)) + strlen(middle) + 8, 1);
    char *text = NULL;
    spar_error err = {0};
    assert_non_null(source);
    char *at = stpcpy(source, block ? "" : "{{ ");
    for (size_t i = 0; i < n; i++) {
        at = stpcpy(at, open);
    }
    at = stpcpy(at, middle);
    for (size_t i = 0; i < n; i++) {
        at = stpcpy(at, close);
    }
    stpcpy(at, block ? "" : " }}");
    const spar_status status = render(source, &text, &err);
    free(text);
    free(source);
    return status;
}

static void deep_nesting(void **state) {
    (void)state;
    assert_int_equal(nested("(", "1", ")", 20), SPAR_OK);
    assert_int_equal(nested("(", "1", ")", 100000), SPAR_LIMIT);
    assert_int_equal(nested("[", "1", "]", 200), SPAR_LIMIT);
    assert_int_equal(nested("{'a':", "1", "}", 200), SPAR_LIMIT);
    assert_int_equal(nested("-", "1", "", 100000), SPAR_LIMIT);
    assert_int_equal(nested("not ", "1", "", 100000), SPAR_LIMIT);
    assert_int_equal(nested("1+", "1", "", 100000), SPAR_LIMIT);
    assert_int_equal(nested("1~", "1", "", 1000), SPAR_OK);
    assert_int_equal(nested("a if b else ", "1", "", 100000), SPAR_LIMIT);
    assert_int_equal(nested("", "'x'", "|upper", 5000), SPAR_LIMIT);
    assert_int_equal(nested("{% if 1 %}", "x", "{% endif %}", 30), SPAR_OK);
    assert_int_equal(nested("{% if 1 %}", "x", "{% endif %}", 10000), SPAR_LIMIT);
    assert_int_equal(nested("{% for i in [1] %}", "x", "{% endfor %}", 10000), SPAR_LIMIT);
}

/* Every prefix of a template that uses the whole syntax, and each of its bytes spoiled. */
static void spoiled_sources(void **state) {
    (void)state;
    static const char source[] =
        "{%- macro m(a, b=[1, 'x\\n']) -%}{# c #}{{ a['k'][1:-1:2].y | join(',') is defined }}"
        "{% endmacro %}{% for a, b in {'x': 1e3}.items() if a not in (1, 2) recursive %}{% raw %}"
        "{{ }}{% endraw %}{% set n = -1 ** 2 // 3 %}{% else %}{{ '%s %5.2f' % (1, 2.0) }}"
        "{%+ endfor +%}{{ '{:>5}'.format(0x1f) if x is not none else \"q\" \"r\" }}";
    static const char bytes[] = "{}%'(|-\x80"; /* and NUL */
    char spoiled[sizeof source];
    for (size_t i = 0; i < sizeof source - 1; i++) {
        spar_error err = {0};
        char *text = NULL;
        for (size_t k = 0; k < sizeof bytes; k++) {
            memcpy(spoiled, source, sizeof source);
            spoiled[i] = bytes[k];
            render_bytes(spoiled, sizeof source - 1, &text, &err);
            free(text);
        }
        const spar_status status = render_bytes(source, i, &text, &err);
        assert_true(status == SPAR_OK ? text != NULL : strncmp(err.message, "test:1: ", 8) == 0);
        free(text);
    }
}

static void names_the_line(void **state) {
    (void)state;
    spar_error err = {0};
    char *text = NULL;
    assert_int_equal(render("a\n{{ 1 }}\n\n{% if x.y %}{% endif %}", &text, &err), SPAR_INVALID);
    assert_string_equal(err.message, "test:4: 'x' is undefined");
    assert_int_equal(render("a\n{% raise %}", &text, &err), SPAR_FORMAT);
    assert_string_equal(err.message, "test:2: unknown tag 'raise'");
    assert_int_equal(render("{{ raise_exception('no\\nway') }}", &text, &err), SPAR_INVALID);
    assert_string_equal(err.message, "test:1: no way");
}

static void inputs(void **state) {
    (void)state;
    static const char source[] =
        "{{ bos_token }}{{ eos_token is defined }}{{ tools }}{{ documents }}{{ name }}"
        "{{ add_generation_prompt }}{{ messages[0].content[0].text }}"
        "{{ strftime_now('%d %B %Y %A %j') }}";
    spar_error err = {0};
    spar_template *t = NULL;
    char *text = NULL;
    size_t n = 0;
    json_t *messages = json_pack("{s:[{s:[{s:s}]}], s:{s:s}}", "messages", "content", "text", "hi",
                                 "chat_template_kwargs", "name", "N");
    spar_render_options options = {
        .add_generation_prompt = true, .bos = "<s>", .now = "2026-11-23"};
    assert_int_equal(spar_template_compile(&t, source, strlen(source), "w", &err), SPAR_OK);
    assert_int_equal(spar_template_render(t, messages, &options, &text, &n, &err), SPAR_OK);
    assert_string_equal(text, "<s>FalseNoneNoneNTruehi23 November 2026 Monday 327");
    assert_int_equal(n, strlen(text));
    free(text);
    options.now = NULL;
    assert_int_equal(spar_template_render(t, messages, &options, &text, &n, &err), SPAR_INVALID);
    assert_null(text);
    options.now = "today";
    assert_int_equal(spar_template_render(t, messages, &options, &text, &n, &err), SPAR_INVALID);
    json_object_set_new(messages, "chat_template_kwargs", json_array());
    assert_int_equal(spar_template_render(t, messages, NULL, &text, &n, &err), SPAR_INVALID);
    json_object_del(messages, "messages");
    assert_int_equal(spar_template_render(t, messages, NULL, &text, &n, &err), SPAR_INVALID);
    json_decref(messages);
    spar_template_free(t);
}

/* Messages as transformers gives them: no member that is null, reasoning under two names. */
static void whole_messages(void **state) {
    (void)state;
    static const char source[] = "{{ messages|tojson }}{{ tools|tojson }}{{ documents }}";
    static const char given[] =
        "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{"
        "\"name\":"
        "\"f\",\"arguments\":{\"x\":null}}}],\"name\":null},{\"role\":\"assistant\",\"reasoning\":"
        "\"r\","
        "\"content\":\"c\"},{\"role\":\"assistant\",\"thinking\":\"t\",\"content\":\"c\","
        "\"reasoning_content\":null},{\"role\":\"assistant\",\"content\":\"c\",\"thinking\":\"t\","
        "\"reasoning_content\":\"rc\"}],\"tools\":[{\"name\":\"f\"}]}";
    static const char expected[] =
        "[{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {\"name\": \"f\", "
        "\"arguments\": "
        "{\"x\": null}}}]}, {\"thinking\": \"r\", \"role\": \"assistant\", \"reasoning\": \"r\", "
        "\"content\": \"c\", \"reasoning_content\": \"r\"}, {\"thinking\": \"t\", \"role\": "
        "\"assistant\", \"content\": \"c\", \"reasoning_content\": \"t\"}, {\"thinking\": \"t\", "
        "\"role\": "
        "\"assistant\", \"content\": \"c\", \"reasoning_content\": \"rc\"}][{\"name\": \"f\"}]None";
    spar_error err = {0};
    spar_template *t = NULL;
    char *text = NULL;
    json_t *conversation = json_loads(given, 0, NULL);
    assert_int_equal(spar_template_compile(&t, source, strlen(source), "w", &err), SPAR_OK);
    assert_int_equal(spar_template_render(t, conversation, NULL, &text, NULL, &err), SPAR_OK);
    assert_string_equal(text, expected);
    free(text);
    json_decref(conversation);
    spar_template_free(t);
}

static void generation_block(void **state) {
    (void)state;
    spar_error err = {0};
    char *text = NULL;
    assert_int_equal(render("a\n  {% generation %}\nb{% set x = 1 %}\n  {% endgeneration %}\n"
                            "c{{ x is defined }}",
                            &text, &err),
                     SPAR_OK);
    assert_string_equal(text, "a\nbcFalse");
    free(text);
}

/* What generation blocks wrote, one for the outermost. */
static void generation_spans(void **state) {
    static const char marked[] =
        "a{% for m in messages %}{% generation %}<{{ m.content }}>"
        "{% generation %}!{% endgeneration %}{% endgeneration %}|{% endfor %}";
    json_t *messages = json_pack("[{s:s}, {s:s}]", "content", "x", "content", "yz");
    spar_template *t;
    spar_error err = {0};
    spar_text_span *spans;
    char *text;
    size_t n, n_spans;
    (void)state;
    assert_int_equal(spar_template_compile(&t, marked, strlen(marked), "t", &err), SPAR_OK);
    assert_true(spar_template_marks(t));
    assert_int_equal(
        spar_template_render_spans(t, messages, NULL, &text, &n, &spans, &n_spans, &err), SPAR_OK);
    assert_string_equal(text, "a<x>!|<yz>!|");
    assert_int_equal(n_spans, 2);
    assert_true(spans[0].begin == 1 && spans[0].end == 5);
    assert_true(spans[1].begin == 6 && spans[1].end == 11);
    free(text);
    free(spans);
    spar_template_free(t);
    assert_int_equal(spar_template_compile(&t, "a", 1, "t", &err), SPAR_OK);
    assert_false(spar_template_marks(t));
    spar_template_free(t);
    json_decref(messages);
}

#define SAY "{% macro say(m) %}<{% generation %} {{ m }} {% endgeneration %}>{% endmacro %}"
#define KEEP "{% set x %}a{% generation %}b{% endgeneration %}c{% endset %}"

/* A template with blocks in captured texts, its text, and what of it they wrote, a | behind each;
 * NULL: what they wrote is unknown. */
static const char *const captured[][3] = {
    {SAY "-{{ say(1) }}-{{ say(2) }}", "-< 1 >-< 2 >", " 1 | 2 |"},
    {SAY "{{ '-' + say(1) + '-' }}{{ 'x' ~ say(2) ~ 3 }}", "-< 1 >-x< 2 >3", " 1 | 2 |"},
    {SAY "{{ say(1)[1:-1]|trim }}{{ say(2).strip('<> ') }}", "12", "1|2|"},
    {SAY "{% macro two(m) %}[{{ say(m) }}{{ say(m) }}]{% endmacro %}{{ two(1) }}", "[< 1 >< 1 >]",
     " 1 | 1 |"},
    {SAY "{% generation %}({{ say(1) }}){% endgeneration %}", "(< 1 >)", "(< 1 >)|"},
    {SAY "{% for s in say(1).split(' ') %}{{ s }};{% endfor %}", "<;1;>;", "1|"},
    {"{% macro f() %}-{{ caller() }}{% endmacro %}{% call f() %}"
     "a{% generation %}b{% endgeneration %}{% endcall %}",
     "-ab", "b|"},
    {KEEP "{{ x }}{{ x }}", "abcabc", "b|b|"},
    {KEEP "{% set ns = namespace(t='.') %}{% set ns.t = ns.t + x %}{{ ns.t }}", ".abc", "b|"},
    {KEEP "{% set y = x[2:] %}{{ y }}{{ x[:2] }}", "cab", "b|"},
    {"{% for i in [[[1]]] recursive %}{% generation %}{{ i if i is number else '' }}"
     "{% endgeneration %}{{ loop(i) if i is iterable else '' }};{% endfor %}",
     "1;;;", "|1|"},
    {"{% macro f() %}{% generation %}{% endgeneration %}{% endmacro %}{{ f() ~ 'a' }}", "a", ""},
    {KEEP "{{ x|upper }}", "ABC", NULL},
    {KEEP "{{ x|length }}", "3", NULL},
    {"{% filter upper %}{% generation %}a{% endgeneration %}{% endfilter %}", "A", NULL},
    {SAY "{% if say(1) %}{{ say(2)|replace('2', '3') }}{% endif %}", "< 3 >", NULL},
};

static void captured_spans(void **state) {
    (void)state;
    json_t *messages = json_array();
    for (size_t i = 0; i < sizeof captured / sizeof *captured; i++) {
        const char *source = captured[i][0], *want = captured[i][2];
        spar_template *t;
        spar_error err = {0};
        spar_text_span *spans;
        char *text, found[256] = "";
        size_t n, n_spans, at = 0;
        assert_int_equal(spar_template_compile(&t, source, strlen(source), "t", &err), SPAR_OK);
        if (spar_template_render(t, messages, NULL, &text, &n, &err) != SPAR_OK) {
            fail_msg("%s: %s", source, err.message);
        }
        assert_string_equal(text, captured[i][1]);
        free(text);
        const spar_status status =
            spar_template_render_spans(t, messages, NULL, &text, &n, &spans, &n_spans, &err);
        assert_int_equal(status, want != NULL ? SPAR_OK : SPAR_UNSUPPORTED);
        for (size_t k = 0; want != NULL && k < n_spans; k++) {
            at += (size_t)snprintf(found + at, sizeof found - at, "%.*s|",
                                   (int)(spans[k].end - spans[k].begin), text + spans[k].begin);
        }
        if (want != NULL && strcmp(found, want) != 0) {
            fail_msg("%s: expected %s, found %s", source, want, found);
        }
        free(text);
        free(spans);
        spar_template_free(t);
    }
    json_decref(messages);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_as_jinja2),
        cmocka_unit_test(refuses),
        cmocka_unit_test(bounds),
        cmocka_unit_test(deep_nesting),
        cmocka_unit_test(spoiled_sources),
        cmocka_unit_test(names_the_line),
        cmocka_unit_test(inputs),
        cmocka_unit_test(whole_messages),
        cmocka_unit_test(generation_block),
        cmocka_unit_test(generation_spans),
        cmocka_unit_test(captured_spans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
