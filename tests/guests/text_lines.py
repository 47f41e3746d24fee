"""Lines of text that are hard for a tokenizer: written by hand, and generated from a seed.

Not a test. The generated lines are the same on every Python version: they are made from code
point ranges, not from Python's own Unicode data.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

# Each line is here for a reason; the comments say which where it is not plain.
HAND_WRITTEN = (
    "",
    " ",
    " \t  ",
    "Hello, World!",
    "the quick brown fox jumps over the lazy dog",
    "unaffable unbelievably hyperparathyroidism antidisestablishmentarianism",
    # The vocabulary's longest word, and longer words that begin with it.
    "telecommunications telecommunicationsx telecommunicationslike xtelecommunications",
    "U.S.A. isn't it's 3.14 1,000,000 $5.99 50% #1 C++ C# a_b a-b a/b e-mail@example.org",
    "don't can't we'll they've I'm",
    "naïve café résumé façade Ångström Zoë coöperate São Tomé Łódź Øresund đồng",
    # The same letters, composed and decomposed, and marks in either order.
    "é e\u0301 ệ e\u0323\u0302 e\u0302\u0323 ớ o\u031b\u0301 o\u0301\u031b \u212b \u2126 \u2160",
    "Z\u0351\u036b\u0343a\u0363\u0321l\u036e\u034ag\u0330\u0323o\u032f\u0309 combining pile",
    # Turkish dotted and dotless I, sharp s, final sigma, long s, ligatures, Kelvin sign.
    "İSTANBUL Iğdır ısı i\u0307 I\u0307",
    "STRASSE straße STRAẞE",
    "ΟΔΥΣΣΕΥΣ ΣΑΣ Σ σ ς ὈΔΥΣΣΕΎΣ Ἀθῆναι ᾳ ᾼ ῼ",
    "ſ ﬁ ﬂ ﬃ ﬆ ǅ ǆ Ǆ ǈ Æ æ Œ œ \u212a",
    "中文分词 我喜歡自然語言處理 日本語のテキスト カタカナ ｶﾀｶﾅ ひらがな が か\u3099 ー 々〆",
    "中a文b 𠀀𠀁 \uf900\uf901 \U0002f800 \u3400\u4dbf\u9fff \U0002b820 \U0002ceb0 ⼀ ⺀ 〇",
    "한국어 문장입니다 각 \u1100\u1161\u11a8 가 힣 ㄱㅏ \ua960 \ud7b0",
    "مرحبا بالعالم اَلْعَرَبِيَّةُ ﷺ ﻻ \u0640 ۱۲۳ ؟ ، كِتَاب",
    "नमस्ते दुनिया हिन्दी क़ \u0915\u093c ज़ ড় ਲ਼ தமிழ் ภาษาไทย กำ ພາສາລາວ བོད་ཡིག མངྒལ",
    "שָׁלוֹם עוֹלָם \ufb2a \u05e9\u05c1 Привет Ёлка Ѓорѓи Йод մեծ ქართული ᲥᲐᲠᲗᲣᲚᲘ አማርኛ ᏣᎳᎩ ꭰ",
    "😀 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ☕️ ❤️ ✈ © ® ™ 1️⃣ 🫠 🪿 emoji😀between",
    "ｆｕｌｌ　ｗｉｄｔｈ！ ＡＢＣ １２３ ～ ｡ ￥",
    # Dropped: NUL, controls, soft hyphen, zero-width characters, byte order mark, bidi controls.
    "a\x00b \x01\x02 c\x7fd \x80\x9f e\u00adf g\u200bh i\u200cj k\u200dl m\ufeffn \u202eo\u202c p",
    "tab\tbetween\vvertical\fform\u0085next\u2028line\u2029paragraph\u00a0no-break\u3000wide",
    "\u1680ogham\u2000quad\u2003em\u2009thin\u200ahair\u202fnarrow\u205fmath\u180emongolian",
    "carriage\rreturn\r\nand\nline feeds\n",
    "private \ue000 \uf8ff \U000f0000 \U0010fffd",
    "unassigned \u0378 \u0557 \U0003ffff noncharacters \ufdd0 \ufffe \uffff \U0010ffff",
    "replacement \ufffd vanishes a\ufffdb",
    "punctuation ¡¿«»‹›„“”‘’‚…‐‑–—―‖•‰′″※‼⁇⁓ ⸮ 、。「」【】〜・｛｝ ؛ ። ། ৷ ॥",
    "symbols are none: ° ± × ÷ § ¶ ¬ ¦ µ ¢ £ ¥ € ₿ ← ↑ → ∀ ∂ ∑ √ ∞ ≠ ≤ ≮ ⌂ ─ █ ■ ♥ $+<=>^`|~",
    # Punctuation, format characters, marks and letters that are younger than the model's tables.
    "\u166d \U000111c9 \u1b7d \u2e52 \u061d \u0c77 \u0890 \u08e2 \U000110cd",
    "x\u1734 x\U0001171e x\u180f x\u0898 x\u08d4 x\u1ac0 x\U0001e130",
    "\u1c89 \u1c90 \ua7cb \ua7dc \U00010d50 \U00016ea0 \u1c8a \u2c2f \u2c5f \u13a0 \uab70",
    # Kept combining characters, which canonical ordering may still move.
    "x\u302e\U0001d165 x\U0001d165\u302e \u1b44\u302f x\U0001d16d\u0902\U0001d165 \u1baa\u1bf2",
    "[CLS] [SEP] [MASK] [UNK] [PAD] [cls] [MASK]ed un[MASK] [[SEP]] [SEP [ SEP] \\[CLS\\]",
    "## ##ing #hash ###x a##b",
    "a" * 99,
    "a" * 100,
    "a" * 101,
    "é" * 100,
    "e\u0301" * 100,
    "e\u0301" * 101,
    "x" * 1000 + " and " + "\u0301" * 1000 + " end",
    "中" * 300,
    "." * 300,
    "각" * 33 + " " + "각" * 34,
    "word " * 600,
    "\\ backslash \\n \\x41 \\\\",
)

Alphabet = Callable[[random.Random], str]


def _between(*ranges: tuple[int, int]) -> Alphabet:
    """Characters of code point ranges, inclusive; each range is equally likely."""

    def pick(source: random.Random) -> str:
        return chr(source.randint(*source.choice(ranges)))

    return pick


def _one_of(characters: str) -> Alphabet:
    return lambda source: source.choice(characters)


ALPHABETS: dict[str, Alphabet] = {
    "ascii": _between((0x20, 0x7E)),
    "letters": _between((0x61, 0x7A), (0x41, 0x5A)),
    "latin": _between((0xC0, 0x24F), (0x1E00, 0x1EFF), (0x61, 0x7A)),
    "greek_cyrillic": _between((0x370, 0x3FF), (0x1F00, 0x1FFF), (0x400, 0x52F)),
    "hebrew_arabic": _between((0x591, 0x5F4), (0x600, 0x6FF), (0xFB1D, 0xFB4F), (0xFE70, 0xFEFC)),
    "indic": _between((0x900, 0x97F), (0x980, 0x9FF), (0xA01, 0xA7F), (0xB80, 0xBFF)),
    "more_indic": _between((0xC00, 0xDFF), (0xE00, 0xEFF), (0xF00, 0xFFF), (0x1B00, 0x1BFF)),
    "cjk": _between((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0xF900, 0xFAFF)),
    "kana": _between((0x3000, 0x30FF), (0x31F0, 0x31FF), (0xFF00, 0xFFEF)),
    "hangul": _between((0xAC00, 0xD7A3), (0x1100, 0x11FF), (0x3130, 0x318F)),
    "emoji": _between((0x1F300, 0x1FAFF), (0x2600, 0x27BF), (0x1F1E6, 0x1F1FF)),
    "joiners": _one_of("\u200d\u200c\ufe0f\ufe0e\u20e3\U0001f3fb\U0001f3ff\U000e0067"),
    "marks": _between((0x300, 0x36F), (0x1DC0, 0x1DFF), (0x20D0, 0x20F0), (0x302A, 0x302F)),
    "movable": _one_of("\u1b44\u1baa\u302e\u302f\ua953\U0001d165\U0001d16d\U0001d172\u08d4\u0902"),
    "controls": _between((0x00, 0x1F), (0x7F, 0x9F), (0x200B, 0x200F), (0x202A, 0x202E)),
    "spaces": _one_of(" \t\n\r\u00a0\u1680\u2000\u2005\u200a\u2028\u2029\u202f\u205f\u3000"),
    "punctuation": _between((0x2010, 0x205E), (0x2E00, 0x2E5D), (0x3001, 0x3020), (0x21, 0x2F)),
    "symbols": _between((0x20A0, 0x20C0), (0x2100, 0x23FF), (0x2460, 0x24FF)),
    "private": _between((0xE000, 0xF8FF), (0xF0000, 0xF00FF), (0x10FF00, 0x10FFFF)),
    "supplementary": _between((0x10000, 0x1FFFF)),
    "anything": _between((0x00, 0xD7FF), (0xE000, 0x10FFFF)),
}

# Words of the vocabulary, and words that are nearly in it, so that real pieces are found too.
STEMS = (
    *("token", "embed", "sentence", "search", "un", "break", "able", "ing", "s", "ed", "re"),
    *("play", "er", "neural", "net", "work", "model", "learn", "hôtel", "élève", "über"),
    *("señor", "København", "smörgåsbord", "Straße", "İzmir", "piñata", "jalapeño"),
)


def _word(source: random.Random) -> str:
    kind = source.random()
    if kind < 0.35:
        word = "".join(source.choice(STEMS) for _ in range(source.randint(1, 3)))
        return source.choice((word, word.upper(), word.capitalize()))
    if kind < 0.75:
        alphabet = ALPHABETS[source.choice(list(ALPHABETS))]
        return "".join(alphabet(source) for _ in range(source.randint(1, 12)))
    # A mixture, where rules meet: a mark behind a space, a joiner behind a letter, ...
    mixed = [ALPHABETS[source.choice(list(ALPHABETS))] for _ in range(4)]
    length = source.randint(90, 110) if kind > 0.99 else source.randint(2, 16)
    return "".join(source.choice(mixed)(source) for _ in range(length))


def generated(count: int, seed: int) -> Iterator[str]:
    """``count`` lines of 1 to 12 words from all alphabets."""
    source = random.Random(seed)
    for _ in range(count):
        words = [_word(source) for _ in range(source.randint(1, 12))]
        yield source.choice((" ", " ", " ", "", "\u3000", "-")).join(words)


def escaped(line: str | bytes) -> bytes:
    """A line as ``semantic-search --escapes`` reads it, without a line feed at the end."""
    raw = line.encode() if isinstance(line, str) else line
    plain = bytes(set(range(0x20, 0x100)) - {0x5C, 0x7F})
    return b"".join(bytes([b]) if b in plain else b"\\x%02x" % b for b in raw)
