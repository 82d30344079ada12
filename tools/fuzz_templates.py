#!/usr/bin/env python3
"""Hold spar's chat templates against jinja2, as transformers configures it, on programs composed at random.

usage: fuzz_templates.py SPAR [--rounds N] [--seed N] [--show N]

A round draws a template of nested statements, expressions, filters, tests, methods and white space control, and
renders it by both over conversations of messages and variables of every type. Where jinja2 fails spar must fail. Not
drawn are letters of which the upper case is several, other than \u00df. What jinja2 prints with an address, complex numbers
and filters of what is no sequence whose result nothing uses, are not compared. The exit status is 0 when all agree, 1 otherwise. Needs transformers and jinja2.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import warnings

import jinja2
from transformers.utils import chat_template_utils

STRINGS = [
    "", "a", "ab", " ", "  x ", "Hello World", "a,b,,c", "été", "ß", "İx", "中文", "👩\u200d👧", "a\nb\n", "\tq\r\n", "1", "-12", "3.5", "1e3", "0x1f", " 7 ",
    "<b>&'\"</b>", "a-b_c", "x" * 30, "one two  three", "{{ x }}", "%s|%d", "{}-{}", "user", "assistant", "\\n", "it's", 'say "hi"', "ǆ", "Σς", "\u2028", "\x85z",
]  # fmt: skip
NAMES = ["s", "t", "n", "z", "f", "b", "l", "d", "none", "messages", "e", "missing", "v", "w", "ns", "bos_token", "add_generation_prompt", "nested"]
VARIABLES = [
    {"s": "Hello World", "t": " été ", "n": 3, "z": 0, "f": 2.5, "b": True, "l": [3, 1, 2], "d": {"b": 1, "a": "x", "c": None}, "e": [], "nested": [[1, "a"], [2, "b"]]},
    {"s": "", "t": "a,b", "n": -7, "z": 10, "f": -0.1, "b": False, "l": ["b", "A", "a", "B"], "d": {"user": {"k": [1, 2]}}, "e": {}, "nested": [{"k": 2, "v": "x"}, {"k": 1, "v": "Y"}, {"k": 2, "v": None}]},
    {"s": "<b>'x'</b>\n", "t": "👩\u200d👧 ǆß", "n": 1000000, "z": 1, "f": 1e20, "b": True, "l": [1.5, 1, True, None, "x"], "d": {"é": "中", "n": -1.0}, "e": "", "nested": {"a": {"b": {"c": 1}}}},
]  # fmt: skip
CONVERSATIONS = [
    [{"role": "user", "content": "Hi "}, {"role": "assistant", "content": "Hello\nthere"}],
    [{"role": "system", "content": "S"}, {"role": "user", "content": "é"}, {"role": "assistant", "content": ""}, {"role": "user", "content": " q?"}],
]


class Program:
    """A random template."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.loops = 0

    def one(self, *choices):
        return self.rng.choice(choices)

    def chance(self, p):
        return self.rng.random() < p

    def string(self):
        text = self.rng.choice(STRINGS)
        quote = self.one("'", '"')
        text = text.replace("\\", "\\\\").replace(quote, "\\" + quote)
        if self.chance(0.5):
            text = text.replace("\n", "\\n").replace("\t", "\\t")
        return quote + text + quote

    def number(self):
        return self.one("0", "1", "2", "3", "7", "-1", "10", "1.5", "0.1", "2.0", "1e3", "100", "1_000", "-2.5", "0x10", "0b11", "3.14159")

    def literal(self, depth):
        r = self.rng.random()
        if r < 0.35:
            return self.string()
        if r < 0.6:
            return self.number()
        if r < 0.7:
            return self.one("true", "false", "none", "True", "False", "None")
        if r < 0.85:
            return "[" + ", ".join(self.expression(depth - 1) for _ in range(self.rng.randint(0, 3))) + "]"
        if r < 0.92:
            return "{" + ", ".join(f"{self.string()}: {self.expression(depth - 1)}" for _ in range(self.rng.randint(0, 2))) + "}"
        return "(" + self.expression(depth - 1) + ", " + self.expression(depth - 1) + ")"

    def name(self):
        if self.loops and self.chance(0.3):
            return self.one("i", "loop.index", "loop.index0", "loop.first", "loop.last", "loop.length", "loop.revindex", "loop.previtem", "loop.nextitem", "i.role", "i['content']", "loop.depth", "loop.cycle('a', 'b')", "loop.changed(i)")
        return self.rng.choice(NAMES)

    def filter(self, depth):
        e = lambda: self.expression(depth - 1)
        return self.one(
            "trim", "length", "upper", "lower", "title", "capitalize", "string", "first", "last", "list", "sort", "unique", "reverse", "join", "int", "float",
            "abs", "tojson", "e", "safe", "sum", "max", "min", "items", "dictsort", "count", "wordcount", "striptags", "urlencode", "round", "escape", "forceescape",
            f"default({e()})", f"default({e()}, true)", f"d({e()})", f"join({self.string()})", f"replace({self.string()}, {self.string()})", f"trim({self.string()})",
            f"truncate({self.number()})", "truncate(5, true, '..')", f"indent({self.number()})", "indent(2, true)", "indent(width=3, blank=true)", f"center({self.one('5', '20')})",
            f"round({self.one('0', '1', '2', '-1')}, {self.string() if self.chance(0.1) else self.one(chr(39) + 'floor' + chr(39), chr(39) + 'ceil' + chr(39), chr(39) + 'common' + chr(39))})",
            f"batch({self.one('1', '2', '3')})", "batch(2, 'x')", f"slice({self.one('1', '2', '3')})", "map('upper')", "map('length')", "map(attribute='role')", "map('trim')|list",
            "map(attribute='k', default=0)", "select", "reject", "select('string')", "reject('none')", "selectattr('role', 'equalto', 'user')", "rejectattr('role', '==', 'user')",
            "selectattr('k')", "groupby('k')", "groupby('role')", "sort(reverse=true)", "sort(attribute='k')", "sort(case_sensitive=true)", "unique(case_sensitive=true)", "dictsort(by='value')",
            "dictsort(true)", "dictsort(reverse=true)", "tojson(indent=2)", "tojson(ensure_ascii=true)", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))", "format(1, 2)", f"format({e()})",
            "attr('role')", "int(5)", "int(0, 16)", "float(1.5)", "sum(start=1)", "sum(attribute='k')", "map('default', 'q')", "map('replace', 'a', 'b')", "select('in', [1, 2, 'a'])", 
        )  # fmt: skip

    def test(self, depth):
        e = lambda: self.expression(depth - 1)
        return self.one(
            "defined", "undefined", "none", "string", "number", "mapping", "sequence", "iterable", "boolean", "integer", "float", "true", "false", "even", "odd", "lower", "upper", "callable",
            "escaped", f"divisibleby({self.one('1', '2', '3', '0')})", f"in({e()})", f"eq({e()})", f"equalto {self.atom(depth)}", f"ne({e()})", f"lt({e()})", f"ge({e()})", f"sameas({self.one('true', 'none', 'false', 'n')})", f"gt {self.number()}",
            "filter", "test",
        )  # fmt: skip

    def method(self, depth):
        e = lambda: self.expression(depth - 1)
        s = self.string
        return self.one(
            "strip()", "lstrip()", "rstrip()", f"strip({s()})", "split()", f"split({s()})", f"split({s()}, 1)", f"rsplit({s()}, 1)", "splitlines()", "splitlines(true)", f"startswith({s()})", f"endswith({s()})",
            f"startswith(({s()}, {s()}))", f"replace({s()}, {s()})", f"replace({s()}, {s()}, 1)", "upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()", f"find({s()})", f"rfind({s()})", f"count({s()})", f"index({s()})",
            f"join({e()})", "isdigit()", "isalpha()", "isalnum()", "isspace()", "isupper()", "islower()", "isnumeric()", "isdecimal()", "isascii()", "center(9)", "center(8, '*')", "ljust(7)", "rjust(7, '.')", "zfill(6)",
            f"partition({s()})", f"rpartition({s()})", f"removeprefix({s()})", f"removesuffix({s()})", f"format({e()}, {e()})", "format(a=1)", "items()", "keys()", "values()", f"get({e()})", f"get({e()}, {e()})", "copy()", "items()|list",
            "append(1)", "pop()", "update({})", 
        )  # fmt: skip

    def atom(self, depth):
        if depth <= 0 or self.chance(0.45):
            return self.name() if self.chance(0.65) else self.literal(0)
        return self.one(lambda: self.literal(depth), lambda: "(" + self.expression(depth - 1) + ")", self.name)()

    def postfix(self, depth):
        text = self.atom(depth)
        for _ in range(self.one(0, 0, 1, 1, 2)):
            kind = self.rng.random()
            if kind < 0.2:
                text += self.one("[0]", "[-1]", "[1]", "['a']", "[n]", ".role", ".a", "['content']", ".missing", "[1:]", "[:-1]", "[::-1]", "[::2]", "[:2]", "[1:3]", ".0", "[s]")
            elif kind < 0.45:
                text += "." + self.method(depth)
            else:
                text += "|" + self.filter(depth)
        return text

    def expression(self, depth):
        """Mostly one whose parts have the types that they need."""
        return self.one(self.text_of, self.number_of, self.list_of, self.truth_of, self.map_of)(depth) if self.chance(0.85) else self.wild(depth)

    def text_of(self, depth):
        if depth <= 0:
            return self.one(self.string(), self.string(), "s", "t", "s", "t", "bos_token", "messages[0].role", "messages[-1]['content']", "'a'")
        s, x = (lambda: self.text_of(depth - 1)), (lambda: self.expression(depth - 1))
        of = self.one("trim", "upper", "lower", "title", "capitalize", "e", "safe", "string", "striptags", "urlencode", "escape", "forceescape", f"trim({s()})", f"replace({s()}, {s()})", f"replace({s()}, {s()}, 1)",
                      f"truncate({self.one('3', '5', '9')}, true)", "truncate(8, false, '..')", "truncate(5, leeway=0)", "indent", "indent(2, true)", "indent('> ')", "indent(width=3, blank=true)", f"center({self.one('5', '20')})", f"default({s()}, true)", "reverse", "first|string", "tojson", "format(1)")
        of_any = self.one("string", "tojson", "tojson(indent=2)", "tojson(ensure_ascii=true)", "tojson(separators=(',', ':'))", "tojson(indent=1, sort_keys=true)", "e", "trim", "upper", "length|string", "default('q')")
        call = self.one("strip()", "lstrip()", "rstrip()", f"strip({s()})", f"lstrip({s()})", f"rstrip({s()})", f"replace({s()}, {s()})", f"replace({s()}, {s()}, 1)", "upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()", "center(9)", "center(8, '*')", "ljust(7)",
                        "rjust(7, '.')", "zfill(6)", f"removeprefix({s()})", f"removesuffix({s()})", f"join({self.list_of(0)}|map('string'))", f"format({x()}, {x()})", f"split({s()} or 'x')|last")
        return self.rng.choice([
            lambda: f"{self.tight(s())}|{of}", lambda: f"{self.tight(s())}|{of}", lambda: f"{self.tight(x())}|{of_any}", lambda: f"{self.tight(s())}.{call}", lambda: f"{self.tight(s())}.{call}", lambda: f"{s()} ~ {x()}", lambda: f"{s()} + {s()}",
            lambda: f"({self.list_of(depth - 1)})|join({self.one('', s())})", lambda: f"({s()} if {self.truth_of(depth - 1)} else {s()})", lambda: f"{self.tight(s())} * {self.one('2', '0', '3', '-1')}",
            lambda: f"{self.tight(s())}[{self.one('1:', ':-1', '::-1', '::2', ':3', '1:3', '-2:', 'n:', ':n:2')}]", lambda: f"'%s-%d' % ({s()}, {self.one('n', '3', 'z')})", lambda: f"'%5.2f|%s' % (f, {x()})", lambda: f"'{{}}:{{!r:>5}}'.format({x()}, {s()})", lambda: f"({s()} or {s()})",
        ])()  # fmt: skip

    def number_of(self, depth):
        if depth <= 0:
            return self.one(self.number(), self.number(), "n", "z", "f", "l|length", "loop.index" if self.loops else "2")
        a, s = (lambda: self.number_of(depth - 1)), (lambda: self.text_of(depth - 1))
        return self.rng.choice([
            lambda: f"{a()} {self.one('+', '-', '*')} {a()}", lambda: f"{self.tight(a())} {self.one('/', '//', '%')} {self.one('2', '3', '-2', '0.5', '7', a())}", lambda: f"{self.tight(a())} ** {self.one('2', '0', '0.5', '-1')}", lambda: f"-{self.tight(a())}",
            lambda: f"{self.tight(a())}|{self.one('abs', 'int', 'float', 'round', 'round(1)', 'round(-1)', 'round(2, ' + chr(39) + 'floor' + chr(39) + ')', 'round(method=' + chr(39) + 'ceil' + chr(39) + ')')}",
            lambda: f"{self.tight(s())}|{self.one('length', 'wordcount', 'int', 'float', 'int(-1)', 'int(0, 16)', 'float(1.5)', 'count')}", lambda: f"{self.tight(s())}.{self.one('find', 'count', 'rfind')}({s()})", lambda: f"({self.list_of(depth - 1)})|{self.one('length', 'count')}", lambda: "[3, 1, n, f]|" + self.one("sum", "max", "min", "sum(start=2)", "first", "last"),
            lambda: f"({a()} if {self.truth_of(depth - 1)} else {a()})",
        ])()  # fmt: skip

    def list_of(self, depth):
        if depth <= 0:
            return self.one("l", "messages", "[1, 2, 3]", "['b', 'A', 'a']", "e", "nested", "d|list", "range(4)", "[n, z, f, b]", "[1, 1.0, true, 2]", "['x', none, '', 0]", "[[1, 'b'], [0, 'a']]")
        m, s = (lambda: self.list_of(depth - 1)), (lambda: self.text_of(depth - 1))
        of = self.one("list", "sort", "unique|list", "reverse|list", "batch(2)|list", "batch(2, 'x')|list", "slice(2)|list", "slice(3, 'q')|list", "map('string')|list", "select|list", "reject|list", "select('string')|list", "select('number')|list", "reject('none')|list", "select('odd')|list", "sort(reverse=true)",
                      "map('upper')|list", "map('length')|list", "map('default', 'q')|list", "map('tojson')|list", "sort(case_sensitive=true)", "unique(case_sensitive=true)|list", "select('in', [1, 2, 'a'])|list", "reject('eq', 1)|list", "select('gt', 1)|list", "map('first')|list", "map('int')|list")
        return self.rng.choice([
            lambda: f"({m()})|{of}", lambda: f"({m()})|{of}", lambda: "[" + ", ".join(self.expression(depth - 1) for _ in range(self.rng.randint(0, 3))) + "]", lambda: f"{self.tight(s())}.{self.one('split()', 'splitlines()', 'splitlines(true)', 'split(' + chr(39) + ',' + chr(39) + ')', 'split(none, 1)', 'rsplit(' + chr(39) + ' ' + chr(39) + ', 1)', 'partition(' + chr(39) + 'a' + chr(39) + ')', 'rpartition(' + chr(39) + 'l' + chr(39) + ')')}",
            lambda: f"{self.tight(s())}|list", lambda: f"messages|{self.one('map(attribute=' + chr(39) + 'role' + chr(39) + ')|list', 'selectattr(' + chr(39) + 'role' + chr(39) + ', ' + chr(39) + 'equalto' + chr(39) + ', ' + chr(39) + 'user' + chr(39) + ')|list', 'rejectattr(' + chr(39) + 'content' + chr(39) + ')|list', 'groupby(' + chr(39) + 'role' + chr(39) + ')', 'map(attribute=' + chr(39) + 'x' + chr(39) + ', default=3)|list', 'sort(attribute=' + chr(39) + 'content' + chr(39) + ')', 'groupby(' + chr(39) + 'k' + chr(39) + ', default=1)')}",
            lambda: f"({self.map_of(0)})|{self.one('dictsort', 'items|list', 'list', 'dictsort(by=' + chr(39) + 'value' + chr(39) + ')', 'dictsort(true)', 'dictsort(reverse=true)')}", lambda: f"({self.map_of(0)}).{self.one('items()', 'keys()', 'values()')}|list",
            lambda: f"({m()}|list)[{self.one('1:', ':-1', '::-1', '::2', ':2')}]", lambda: f"({m()}|list) + {self.one('[9]', 'l')}", lambda: f"({self.expression(depth - 1)}, {self.expression(depth - 1)})", lambda: "[1, 2] * 2", lambda: f"range({self.one('3', '1, 4', '5, 0, -2')})|list",
        ])()  # fmt: skip

    def truth_of(self, depth):
        if depth <= 0:
            return self.one("b", "true", "false", "s", "e", "missing is defined", "n > 2", "add_generation_prompt", "not b", "loop.first" if self.loops else "b", "none")
        x = lambda: self.expression(depth - 1)
        return self.rng.choice([
            lambda: f"{self.tight(x())} is {self.one('', 'not ')}{self.test(0)}", lambda: f"{self.number_of(depth - 1)} {self.one('<', '<=', '>', '>=', '==', '!=')} {self.number_of(depth - 1)}", lambda: f"{self.text_of(depth - 1)} {self.one('<', '==', '!=', 'in', 'not in', '>=')} {self.text_of(depth - 1)}",
            lambda: f"{self.tight(x())} in {self.list_of(depth - 1)}", lambda: f"{self.tight(x())} {self.one('==', '!=')} {self.tight(x())}", lambda: f"{x()} {self.one('and', 'or')} {x()}", lambda: f"not {self.tight(x())}", lambda: f"{self.text_of(0)}.{self.one('startswith', 'endswith')}({self.text_of(0)})",
            lambda: f"{self.text_of(depth - 1)}.{self.one('isdigit', 'isalpha', 'isalnum', 'isspace', 'isupper', 'islower', 'isnumeric', 'isdecimal', 'isascii')}()", lambda: f"1 < {self.number_of(0)} <= {self.number_of(0)}", lambda: f"({self.text_of(0)}) in d",
        ])()  # fmt: skip

    def map_of(self, depth):
        return self.one("d", "messages[0]", "{'a': 1, 'B': none}", "dict(x=1, y='z')", "{1: 'a', 'k': [1, {}]}", "{s: t}", "{}", "dict(d, q=1)") if depth <= 0 or self.chance(0.6) else "{" + f"{self.string()}: {self.expression(depth - 1)}, 'k': {self.expression(depth - 1)}" + "}"

    @staticmethod
    def tight(text):
        return text if re.fullmatch(r"[\w.]*[A-Za-z_]\w*|'[^'\\]*'", text) else f"({text})"

    def wild(self, depth):
        if depth < 0:
            return self.one(self.name, self.name, self.string, self.number)()
        if depth == 0:
            return self.postfix(0)
        r = self.rng.random()
        sub = lambda: self.expression(depth - 1)
        if r < 0.45:
            return self.postfix(depth)
        if r < 0.62:
            return f"{sub()} {self.one('+', '-', '*', '/', '//', '%', '~', '~', '+', '**')} {sub()}"
        if r < 0.74:
            return f"{sub()} {self.one('==', '!=', '<', '<=', '>', '>=', 'in', 'not in')} {sub()}"
        if r < 0.82:
            return f"{sub()} {self.one('and', 'or')} {sub()}"
        if r < 0.86:
            return f"not {sub()}"
        if r < 0.93:
            return f"{sub()} is {self.one('', 'not ')}{self.test(depth)}"
        if r < 0.97:
            return f"{sub()} if {sub()}" + (f" else {sub()}" if self.chance(0.8) else "")
        if r < 0.98:
            return f"-{self.postfix(0)}"
        return self.one("range(3)|list", "range(n)|length", "range(1, 9, 2)|list", "dict(a=1)", "dict(a=1, **{})", "namespace(x=1).x", "cycler(1, 2).next()")

    def mark(self):
        return self.one("", "", "", "-", "+")

    def tag(self, text):
        return "{%" + self.one("", "", "-", "+") + " " + text + " " + self.one("", "", "-", "+") + "%}"

    def text(self):
        return self.one("", " ", "\n", "\n\n", "x", " y\n", "\n  ", "<|im_start|>", "z ", "\t\n", "}", "%", "{", "#", "\r\n", "é")

    def body(self, depth):
        return "".join(self.statement(depth - 1) for _ in range(self.rng.randint(1, 3)))

    def statement(self, depth):
        r = self.rng.random()
        if depth <= 0 or r < 0.45:
            return self.text() + "{{" + self.one("", "-", "") + " " + self.expression(self.one(1, 2, 2)) + " " + self.one("", "-", "") + "}}" + self.text()
        if r < 0.58:
            end = self.one("", "else", "elif")
            other = self.tag("else") + self.body(depth) if end == "else" else self.tag("elif " + self.truth_of(1)) + self.body(depth) if end else ""
            return self.text() + self.tag("if " + self.truth_of(2)) + self.body(depth) + other + self.tag("endif") + self.text()
        if r < 0.75:
            over = self.one("messages", "l", "d", "range(3)", "d.items()", "nested", "s", "[1, 2, 3]", self.list_of(1), self.list_of(2))
            names = "i, v" if over == "d.items()" or self.chance(0.05) else "i"
            self.loops += 1
            inside = self.body(depth) + (self.tag("if loop.index == 2") + self.tag(self.one("break", "continue")) + self.tag("endif") if self.chance(0.2) else "")
            self.loops -= 1
            where = " if " + self.truth_of(1) if self.chance(0.15) else ""
            other = self.tag("else") + self.body(depth) if self.chance(0.2) else ""
            return self.tag(f"for {names} in {over}{where}{self.one('', '', ' recursive') if not where else ''}") + inside + other + self.tag("endfor")
        if r < 0.85:
            return self.tag(self.one(f"set v = {self.expression(2)}", f"set w = {self.expression(1)}", f"set v, w = {self.expression(1)}, {self.expression(1)}", f"set ns = namespace(x={self.expression(1)})", f"set ns.x = {self.expression(1)}"))
        if r < 0.88:
            return self.tag(self.one("set v", "set v | upper")) + self.body(depth) + self.tag("endset")
        if r < 0.91:
            name = self.one("m", "k")
            return self.tag(f"macro {name}(a, b={self.expression(0)})") + "{{ a }}" + self.body(depth) + self.one("", "{{ caller() }}", "{{ varargs }}", "{{ kwargs }}") + self.tag("endmacro") + "{{ " + f"{name}({self.expression(0)})" + " }}"
        if r < 0.93:
            return self.tag("filter " + self.one("upper", "trim", "indent(2)", "replace('a', 'b')")) + self.body(depth) + self.tag("endfilter")
        if r < 0.95:
            return self.tag("with " + f"v = {self.expression(1)}") + self.body(depth) + self.tag("endwith")
        if r < 0.97:
            return self.tag("raw") + self.one("{{ x }}", "{% if %}", " a \n") + self.tag("endraw")
        if r < 0.985:
            return "{#" + self.one("", "-", "+") + " c " + self.one("", "-") + "#}" + self.text()
        return self.tag("generation") + self.body(depth) + self.tag("endgeneration")

    def template(self):
        return "".join(self.statement(self.one(1, 2, 3)) for _ in range(self.rng.randint(1, 4)))


class Uncompared(Exception):
    pass


def theirs(template, rows):
    """Texts; None where jinja2 fails."""
    texts = []
    try:
        compiled = chat_template_utils._compile_jinja_template(template)
    except jinja2.exceptions.TemplateAssertionError:  # which what is never reached makes too
        return [Uncompared] * len(rows)
    except Exception:
        return [None] * len(rows)

    def stop(*_):
        raise Uncompared

    signal.signal(signal.SIGALRM, stop)
    for row in rows:
        signal.alarm(5)
        try:
            given = dict(messages=row["messages"], tools=None, documents=None, add_generation_prompt=False, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
            texts.append(compiled.render(**given, **row["chat_template_kwargs"]))
        except Uncompared:
            texts.append(Uncompared)
        except Exception:
            texts.append(None)
        finally:
            signal.alarm(0)
    return texts


def ours(spar, template, rows):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "t.jinja")
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(template)
        command = [spar, "render", "--template", path, "--bos", "<s>", "--eos", "</s>", "--pad", "<pad>", "--unk", "<unk>", "--now", "2026-11-23"]
        done = subprocess.run(command, input="".join(json.dumps(row) + "\n" for row in rows).encode(), capture_output=True, timeout=60)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    if len(found) != len(rows):
        return [(None, done.stderr.decode().strip() or f"status {done.returncode}")] * len(rows)
    return [(row.get("text"), row.get("error")) for row in found]


def differs(want, found):
    if want is not None and found[1] and found[1].endswith(("object is not iterable", "can only get item pairs from a mapping", "is not a finite real number", "cannot be sliced so", "beyond 64-bit whole numbers")):
        return False
    if want is Uncompared or (want and re.search(r"\dj\)|(object|obj.ct|OBJECT)[^<>]*at 0?x|gener.tor|GENERATOR|<function|<built-in|<bound|<class|<generator|dict_(items|keys|values)|<Macro|<jinja2|<method", want)):
        return False
    return want != found[0]


def pieces(template):
    """The template without each of its tags, prints and stretches of text, and the pairs of tags."""
    parts = re.findall(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}|.", template, re.S)
    for width in (12, 6, 4, 3, 2, 1):
        for at in range(len(parts) - width + 1):
            yield "".join(parts[:at] + parts[at + width:])
    for i in range(len(parts)):
        for j in range(i + 1, len(parts)):
            if parts[i].startswith("{%") and parts[j].startswith("{%"):
                yield "".join(parts[:i] + parts[i + 1:j] + parts[j + 1:])


def shrink(spar, template, row):
    """A shorter template that differs on this row."""
    tried = 0
    again = True
    while again:
        again = False
        for smaller in pieces(template):
            tried += 1
            if tried > 400:
                return template
            if differs(theirs(smaller, [row])[0], ours(spar, smaller, [row])[0]):
                template, again = smaller, True
                break
    return template


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spar")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5)
    o = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [{"messages": m, "chat_template_kwargs": v} for v, m in zip(VARIABLES, CONVERSATIONS + CONVERSATIONS[:1])]
    differ = refused = 0
    for number in range(o.seed * 1000000, o.seed * 1000000 + o.rounds):
        template = Program(number).template()
        want, found = theirs(template, rows), ours(o.spar, template, rows)
        bad = [i for i in range(len(rows)) if differs(want[i], found[i])]
        refused += sum(one is None for one in want)
        differ += bool(bad)
        if bad and differ <= o.show:
            row = rows[bad[0]]
            small = shrink(o.spar, template, row)
            print(f"round {number}, row {bad[0]}: {small!r}\n  jinja2 {theirs(small, [row])[0]!r}\n  spar   {ours(o.spar, small, [row])[0]!r}", flush=True)
    print(f"{o.rounds} programs, of {o.rounds * len(rows)} renders {refused} refused: {differ} differ")
    sys.exit(differ != 0)


if __name__ == "__main__":
    main()
