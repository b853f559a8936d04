#!/usr/bin/env python3
"""Writes texts.jsonl: 200 texts in many scripts, of one token to more than MiniLM's 256.

    python make_texts.py            (standard library only; fixed seed, same bytes every time)
"""
import json
import os
import random

SCRIPTS = {
    "english": "the harbour tide bread window morning question answer river bridge wind light boat net "
               "reads opens writes closes waits turns because although quickly seldom every another",
    "german": "der Hafen die Brücke das Brot Fenster öffnet schließt Straße über während Mühle größer",
    "french": "la fenêtre où l'été dernier boulanger déjà près théâtre ouvre français garçon",
    "spanish": "el niño pregunta dónde está montaña mañana señor corazón año",
    "vietnamese": "buổi sáng người thợ bánh mở cửa sổ phố tiếng Việt",
    "turkish": "sabah fırıncı pencereyi açar ışık güzel İstanbul değil",
    "russian": "каждое утро пекарь открывает окно запах хлеба идёт вниз по улице река мост",
    "greek": "κάθε πρωί ο φούρναρης ανοίγει το παράθυρο η μυρωδιά του ψωμιού",
    "arabic": "في كل صباح يفتح الخباز النافذة وتنزل رائحة الخبز إلى الشارع",
    "hebrew": "בכל בוקר האופה פותח את החלון וריח הלחם יורד ברחוב",
    "hindi": "हर सुबह बेकर खिड़की खोलता है और रोटी की खुशबू",
    "bengali": "প্রতিদিন সকালে জানালা খোলে এবং রুটির গন্ধ",
    "tamil": "ஒவ்வொரு காலையும் ஜன்னல் திறக்கிறது ரொட்டி வாசனை",
    "thai": "ทุกเช้า คนทำขนมปัง เปิด หน้าต่าง กลิ่น",
    "chinese": "每天早上 面包师 打开窗户 香味 街道 河水上涨 问题 答案",
    "japanese": "毎朝 パン屋は 窓を開け 香りが 通りを カタカナ ひらがな",
    "korean": "매일 아침 빵집 주인이 창문을 열면 냄새가 거리로",
    "georgian": "ყოველ დილით მცხობელი ფანჯარას აღებს",
    "armenian": "ամեն առավոտ հացթուխը բացում է պատուհանը",
    "emoji": "😀 🎉 👍🏽 👩‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ❤️ ☕ 🚢",
    "symbols": "∑ ∫ √2 ≈ ≤ € £ 100% $3.50 x² ½ № ™ — … « » “ ”",
    "code": "def f(x): return {x: x**2} if(x>0){y[i]+=1;} SELECT * FROM t; #include <stdio.h> a.b->c",
}

FIXED = [
    "a", "?", "I", "中", "é", "e\u0301", "ﬁ", "😀", "[SEP]", "[MASK] and [CLS] inside a text", "UPPER CASE",
    "tabs\tand\nnew lines\r\n", "   spaces   around   ", "don't we'll they're", "https://example.org/a?b=c#d",
    "1987-06-05T04:03:02Z", "3.14159e-10", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "zero\u200bwidth\u00a0space\u3000wide", "\u202eright to left override", "Ａｆｕｌｌ ｗｉｄｔｈ",
    "a" * 150, "..........", "x" * 99 + " " + "y" * 101,
]


def main():
    rng = random.Random(20240607)
    texts = list(FIXED)
    names = sorted(SCRIPTS)
    lengths = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144]
    while len(texts) < 196:
        i = len(texts)
        pools = [names[i % len(names)]] + ([rng.choice(names)] if i % 3 == 0 else [])
        words = [w for name in pools for w in SCRIPTS[name].split()]
        text = " ".join(rng.choice(words) for _ in range(lengths[i % len(lengths)]))
        texts.append(text + rng.choice(["", ".", "?", "!", "\n"]))
    english = SCRIPTS["english"].split()
    for n in (240, 254, 255, 400):  # near MiniLM's limit, and cut at it
        texts.append(" ".join(rng.choice(english) for _ in range(n)))
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "texts.jsonl")
    with open(path, "w", encoding="utf-8") as f:
        for text in texts:
            f.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    print(f"{path}: {len(texts)} texts")


if __name__ == "__main__":
    main()
