"""What vector instructions become that LLVM has no good common form for, by CPU, as LLVM IR.

Meanings call these as functions, whatever the target; whoever compiles appends the definitions
for it, all of them inlined. Each has a portable form, and others that compute exactly the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["PREFIX", "simd_support"]

PREFIX = "wasinn.simd."
"""How the names of the functions begin."""


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to do it.

    Attributes:
        cpu: the architecture it is for, as triples begin; empty for any.
        feature: what the CPU must have; empty for nothing.
        text: result type, parameters and body. Of several that fit, the first one counts.
    """

    cpu: str
    feature: str
    text: str


def _x86(feature: str, text: str) -> _Form:
    return _Form("x86_64", feature, text)


def _arm(text: str) -> _Form:
    return _Form("aarch64", "", text)


def _any(text: str) -> _Form:
    return _Form("", "", text)


_FORMS: dict[str, tuple[_Form, ...]] = {}

# --- bytes ----------------------------------------------------------------------------------------


def _byte_by_byte() -> str:
    lines = ["<16 x i8> (<16 x i8> %a, <16 x i8> %i) {", "%m = and <16 x i8> %i, splat (i8 15)"]
    vector = "poison"
    for n in range(16):
        lines.append(f"%i{n} = extractelement <16 x i8> %m, i32 {n}")
        lines.append(f"%e{n} = extractelement <16 x i8> %a, i8 %i{n}")
        lines.append(f"%r{n} = insertelement <16 x i8> {vector}, i8 %e{n}, i32 {n}")
        vector = f"%r{n}"
    lines.append("%inside = icmp ult <16 x i8> %i, splat (i8 16)")
    lines.append(f"%r = select <16 x i1> %inside, <16 x i8> {vector}, <16 x i8> zeroinitializer")
    lines.append("ret <16 x i8> %r }")
    return "\n".join(lines)


_FORMS["swizzle"] = (
    # It gives 0 where the top bit is set: as it is, after saturation, from 16 on.
    _x86(
        "ssse3",
        """<16 x i8> (<16 x i8> %a, <16 x i8> %i) {
%s = call <16 x i8> @llvm.uadd.sat.v16i8(<16 x i8> %i, <16 x i8> splat (i8 112))
%r = call <16 x i8> @llvm.x86.ssse3.pshuf.b.128(<16 x i8> %a, <16 x i8> %s)
ret <16 x i8> %r }""",
    ),
    _arm(
        """<16 x i8> (<16 x i8> %a, <16 x i8> %i) {
%r = call <16 x i8> @llvm.aarch64.neon.tbl1.v16i8(<16 x i8> %a, <16 x i8> %i)
ret <16 x i8> %r }"""
    ),
    _any(_byte_by_byte()),
)

# --- products and sums of integers ----------------------------------------------------------------


def _indices(first: int, count: int) -> str:
    """Every other lane, as a mask."""
    return f"<{count} x i32> <" + ", ".join(f"i32 {first + 2 * n}" for n in range(count)) + ">"


def _pairs(extension: str, bits: int) -> str:
    n = 64 // bits
    source, half, wide = f"<{2 * n} x i{bits}>", f"<{n} x i{bits}>", f"<{n} x i{2 * bits}>"
    return f"""{wide} ({source} %a) {{
%e = shufflevector {source} %a, {source} poison, {_indices(0, n)}
%o = shufflevector {source} %a, {source} poison, {_indices(1, n)}
%x = {extension} {half} %e to {wide}
%y = {extension} {half} %o to {wide}
%r = add {wide} %x, %y
ret {wide} %r }}"""


def _arm_pairs(extension: str, bits: int) -> _Form:
    n = 64 // bits
    source, wide = f"<{2 * n} x i{bits}>", f"<{n} x i{2 * bits}>"
    name = f"{extension[0].replace('z', 'u')}addlp.v{n}i{2 * bits}.v{2 * n}i{bits}"
    return _arm(
        f"""{wide} ({source} %a) {{
%r = call {wide} @llvm.aarch64.neon.{name}({source} %a)
ret {wide} %r }}"""
    )


_ONES = "<16 x i8> splat (i8 1)"
_FORMS["pairwise.sext.i16x8"] = (
    # Products of unsigned bytes, the first operand, with signed ones.
    _x86(
        "ssse3",
        f"""<8 x i16> (<16 x i8> %a) {{
%r = call <8 x i16> @llvm.x86.ssse3.pmadd.ub.sw.128({_ONES}, <16 x i8> %a)
ret <8 x i16> %r }}""",
    ),
    _arm_pairs("sext", 8),
    _any(_pairs("sext", 8)),
)
_FORMS["pairwise.zext.i16x8"] = (
    _x86(
        "ssse3",
        f"""<8 x i16> (<16 x i8> %a) {{
%r = call <8 x i16> @llvm.x86.ssse3.pmadd.ub.sw.128(<16 x i8> %a, {_ONES})
ret <8 x i16> %r }}""",
    ),
    _arm_pairs("zext", 8),
    _any(_pairs("zext", 8)),
)
_FORMS["pairwise.sext.i32x4"] = (
    _x86(
        "",
        """<4 x i32> (<8 x i16> %a) {
%r = call <4 x i32> @llvm.x86.sse2.pmadd.wd(<8 x i16> %a, <8 x i16> splat (i16 1))
ret <4 x i32> %r }""",
    ),
    _arm_pairs("sext", 16),
    _any(_pairs("sext", 16)),
)
_FORMS["pairwise.zext.i32x4"] = (
    _arm_pairs("zext", 16),
    _any(_pairs("zext", 16)),
)

_FORMS["q15mulr"] = (
    # It overflows for the square of -1 alone, and then gives -1 instead of the largest number.
    _x86(
        "ssse3",
        """<8 x i16> (<8 x i16> %a, <8 x i16> %b) {
%p = call <8 x i16> @llvm.x86.ssse3.pmul.hr.sw.128(<8 x i16> %a, <8 x i16> %b)
%o = icmp eq <8 x i16> %p, splat (i16 -32768)
%m = sext <8 x i1> %o to <8 x i16>
%r = xor <8 x i16> %p, %m
ret <8 x i16> %r }""",
    ),
    _arm(
        """<8 x i16> (<8 x i16> %a, <8 x i16> %b) {
%r = call <8 x i16> @llvm.aarch64.neon.sqrdmulh.v8i16(<8 x i16> %a, <8 x i16> %b)
ret <8 x i16> %r }"""
    ),
    _any(
        """<8 x i16> (<8 x i16> %a, <8 x i16> %b) {
%x = sext <8 x i16> %a to <8 x i32>
%y = sext <8 x i16> %b to <8 x i32>
%p = mul nsw <8 x i32> %x, %y
%n = add nsw <8 x i32> %p, splat (i32 16384)
%q = ashr <8 x i32> %n, splat (i32 15)
%s = call <8 x i32> @llvm.smin.v8i32(<8 x i32> %q, <8 x i32> splat (i32 32767))
%r = trunc <8 x i32> %s to <8 x i16>
ret <8 x i16> %r }"""
    ),
)

# Signed by unsigned, with a sum that saturates: docs/decisions/0010-relaxed-simd.md says why.
_FORMS["dot7"] = (
    _x86(
        "ssse3",
        """<8 x i16> (<16 x i8> %a, <16 x i8> %b) {
%r = call <8 x i16> @llvm.x86.ssse3.pmadd.ub.sw.128(<16 x i8> %b, <16 x i8> %a)
ret <8 x i16> %r }""",
    ),
    _any(
        f"""<8 x i16> (<16 x i8> %a, <16 x i8> %b) {{
%x = sext <16 x i8> %a to <16 x i16>
%y = zext <16 x i8> %b to <16 x i16>
%p = mul nsw <16 x i16> %x, %y
%e = shufflevector <16 x i16> %p, <16 x i16> poison, {_indices(0, 8)}
%o = shufflevector <16 x i16> %p, <16 x i16> poison, {_indices(1, 8)}
%r = call <8 x i16> @llvm.sadd.sat.v8i16(<8 x i16> %e, <8 x i16> %o)
ret <8 x i16> %r }}"""
    ),
)

# --- floats ---------------------------------------------------------------------------------------


def _minmax(word: str, lane: str, count: int, overload: str) -> tuple[_Form, ...]:
    v, bits = f"<{count} x {lane}>", f"<{count} x i{128 // count}>"
    order, join = {"minimum": ("olt", "or"), "maximum": ("ogt", "and")}[word]
    head = f"{v} ({v} %a, {v} %b) {{"
    native = f"""{head}
%r = call {v} @llvm.{word}.{overload}({v} %a, {v} %b)
ret {v} %r }}"""
    # Both ways round they differ for zeros alone, whose signs decide; and of a NaN comes the sum.
    both = f"""{head}
%c = fcmp {order} {v} %a, %b
%d = fcmp {order} {v} %b, %a
%x = select <{count} x i1> %c, {v} %a, {v} %b
%y = select <{count} x i1> %d, {v} %b, {v} %a
%i = bitcast {v} %x to {bits}
%j = bitcast {v} %y to {bits}
%k = {join} {bits} %i, %j
%m = bitcast {bits} %k to {v}
%n = fcmp uno {v} %a, %b
%s = fadd {v} %a, %b
%r = select <{count} x i1> %n, {v} %s, {v} %m
ret {v} %r }}"""
    return (_arm(native), _any(both))


for _word in ("minimum", "maximum"):
    _FORMS[f"{_word}.f32x4"] = _minmax(_word, "float", 4, "v4f32")
    _FORMS[f"{_word}.f64x2"] = _minmax(_word, "double", 2, "v2f64")

# On x86 a conversion gives the lowest integer for whatever does not fit.
_FORMS["trunc_sat.s.f32x4"] = (
    # Flipping all bits of it, where the number was too large, gives the highest.
    _x86(
        "",
        """<4 x i32> (<4 x float> %a) {
%o = fcmp ord <4 x float> %a, zeroinitializer
%n = select <4 x i1> %o, <4 x float> %a, <4 x float> zeroinitializer
%c = call <4 x i32> @llvm.x86.sse2.cvttps2dq(<4 x float> %n)
%l = fcmp oge <4 x float> %a, splat (float 0x41E0000000000000)
%m = sext <4 x i1> %l to <4 x i32>
%r = xor <4 x i32> %c, %m
ret <4 x i32> %r }""",
    ),
    _any(
        """<4 x i32> (<4 x float> %a) {
%r = call <4 x i32> @llvm.fptosi.sat.v4i32.v4f32(<4 x float> %a)
ret <4 x i32> %r }"""
    ),
)
_FORMS["trunc_sat.u.f32x4"] = (
    # The sum of what fits 31 bits, or 2 ** 31, and of what is beyond.
    _x86(
        "",
        """<4 x i32> (<4 x float> %a) {
%p = fcmp ogt <4 x float> %a, zeroinitializer
%n = select <4 x i1> %p, <4 x float> %a, <4 x float> zeroinitializer
%c = call <4 x i32> @llvm.x86.sse2.cvttps2dq(<4 x float> %n)
%b = fsub <4 x float> %n, splat (float 0x41E0000000000000)
%d = call <4 x i32> @llvm.x86.sse2.cvttps2dq(<4 x float> %b)
%l = fcmp oge <4 x float> %b, splat (float 0x41E0000000000000)
%m = sext <4 x i1> %l to <4 x i32>
%x = xor <4 x i32> %d, %m
%y = call <4 x i32> @llvm.smax.v4i32(<4 x i32> %x, <4 x i32> zeroinitializer)
%r = add <4 x i32> %c, %y
ret <4 x i32> %r }""",
    ),
    _any(
        """<4 x i32> (<4 x float> %a) {
%r = call <4 x i32> @llvm.fptoui.sat.v4i32.v4f32(<4 x float> %a)
ret <4 x i32> %r }"""
    ),
)
_FORMS["trunc_sat.s.f64x2"] = (
    _x86(
        "",
        """<4 x i32> (<2 x double> %a) {
%o = fcmp ord <2 x double> %a, zeroinitializer
%n = select <2 x i1> %o, <2 x double> %a, <2 x double> zeroinitializer
%l = fcmp olt <2 x double> %n, splat (double 2147483647.0)
%m = select <2 x i1> %l, <2 x double> %n, <2 x double> splat (double 2147483647.0)
%r = call <4 x i32> @llvm.x86.sse2.cvttpd2dq(<2 x double> %m)
ret <4 x i32> %r }""",
    ),
    _any(
        """<4 x i32> (<2 x double> %a) {
%w = call <2 x i64> @llvm.fptosi.sat.v2i64.v2f64(<2 x double> %a)
%l = call <2 x i64> @llvm.smax.v2i64(<2 x i64> %w, <2 x i64> splat (i64 -2147483648))
%h = call <2 x i64> @llvm.smin.v2i64(<2 x i64> %l, <2 x i64> splat (i64 2147483647))
%t = trunc <2 x i64> %h to <2 x i32>
%r = shufflevector <2 x i32> %t, <2 x i32> zeroinitializer, <4 x i32> <i32 0, i32 1, i32 2, i32 3>
ret <4 x i32> %r }"""
    ),
)
_FORMS["trunc_sat.u.f64x2"] = (
    # A whole number below 2 ** 52 is in the low bits of its sum with that.
    _x86(
        "sse4.1",
        """<4 x i32> (<2 x double> %a) {
%p = fcmp ogt <2 x double> %a, zeroinitializer
%n = select <2 x i1> %p, <2 x double> %a, <2 x double> zeroinitializer
%l = fcmp olt <2 x double> %n, splat (double 4294967295.0)
%m = select <2 x i1> %l, <2 x double> %n, <2 x double> splat (double 4294967295.0)
%t = call <2 x double> @llvm.trunc.v2f64(<2 x double> %m)
%s = fadd <2 x double> %t, splat (double 4503599627370496.0)
%i = bitcast <2 x double> %s to <4 x i32>
%r = shufflevector <4 x i32> %i, <4 x i32> zeroinitializer, <4 x i32> <i32 0, i32 2, i32 4, i32 5>
ret <4 x i32> %r }""",
    ),
    _any(
        """<4 x i32> (<2 x double> %a) {
%w = call <2 x i64> @llvm.fptoui.sat.v2i64.v2f64(<2 x double> %a)
%h = call <2 x i64> @llvm.umin.v2i64(<2 x i64> %w, <2 x i64> splat (i64 4294967295))
%t = trunc <2 x i64> %h to <2 x i32>
%r = shufflevector <2 x i32> %t, <2 x i32> zeroinitializer, <4 x i32> <i32 0, i32 1, i32 2, i32 3>
ret <4 x i32> %r }"""
    ),
)


def simd_support(ir: str, triple: str, features: str) -> str:
    """The definitions that IR needs.

    Args:
        ir: as the meanings write it.
        triple: of the target.
        features: of the target's CPU as LLVM lists them, ``+ssse3,-avx``.

    Returns:
        LLVM IR to append; empty if it needs none.
    """
    if PREFIX not in ir:
        return ""
    cpu, has = triple.partition("-")[0], {"", *features.replace("+", "").split(",")}
    texts = []
    for name in sorted(set(re.findall(rf"@{re.escape(PREFIX)}([\w.]+)\(", ir))):
        form = next(f for f in _FORMS[name] if f.cpu in ("", cpu) and f.feature in has)
        result, parameters = form.text.split("(", 1)
        signature = f"{result}@{PREFIX}{name}({parameters.partition(') {')[0]})"
        body = parameters.partition(") {")[2]
        texts.append(f"define internal {signature} alwaysinline nounwind memory(none) {{{body}")
    return "\n" + "\n".join(texts) + "\n"
