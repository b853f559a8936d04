/* Shortest digits after R. Giulietti, "The Schubfach way to render doubles" (2020), for float32.
 *
 * x = c * 2^q reads back from every decimal between the midpoints to its two neighbours. With the
 * k for which 10^k is at most as wide as that interval, and 10^(k+1) is wider, at most one multiple
 * of 10^(k+1) lies inside (then it is the shortest, zeros at its end dropped), and if none does,
 * one of the two multiples of 10^k around x. All quantities are scaled by 4 / 10^k, so that
 * midpoints are whole multiples of c's unit, and kept with a sticky last bit for what was cut off.
 */
#include "runtime/base/number.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef unsigned __int128 u128;

enum {
    POWER_MIN = -31, /* of ten, the first in the table */
    POWER_COUNT = 78,
    MANTISSA_BITS = 23,
    EXPONENT_MIN = -149 /* of the last place, of the least floats */
};

/* 10^e for e from POWER_MIN, as the 64 leading bits, rounded up: ceil(10^e / 2^(log2_10(e) - 63)).
 */
static const uint64_t powers[] = {
    0x81CEB32C4B43FCF5u, 0xA2425FF75E14FC32u, 0xCAD2F7F5359A3B3Fu, 0xFD87B5F28300CA0Eu,
    0x9E74D1B791E07E49u, 0xC612062576589DDBu, 0xF79687AED3EEC552u, 0x9ABE14CD44753B53u,
    0xC16D9A0095928A28u, 0xF1C90080BAF72CB2u, 0x971DA05074DA7BEFu, 0xBCE5086492111AEBu,
    0xEC1E4A7DB69561A6u, 0x9392EE8E921D5D08u, 0xB877AA3236A4B44Au, 0xE69594BEC44DE15Cu,
    0x901D7CF73AB0ACDAu, 0xB424DC35095CD810u, 0xE12E13424BB40E14u, 0x8CBCCC096F5088CCu,
    0xAFEBFF0BCB24AAFFu, 0xDBE6FECEBDEDD5BFu, 0x89705F4136B4A598u, 0xABCC77118461CEFDu,
    0xD6BF94D5E57A42BDu, 0x8637BD05AF6C69B6u, 0xA7C5AC471B478424u, 0xD1B71758E219652Cu,
    0x83126E978D4FDF3Cu, 0xA3D70A3D70A3D70Bu, 0xCCCCCCCCCCCCCCCDu, 0x8000000000000000u,
    0xA000000000000000u, 0xC800000000000000u, 0xFA00000000000000u, 0x9C40000000000000u,
    0xC350000000000000u, 0xF424000000000000u, 0x9896800000000000u, 0xBEBC200000000000u,
    0xEE6B280000000000u, 0x9502F90000000000u, 0xBA43B74000000000u, 0xE8D4A51000000000u,
    0x9184E72A00000000u, 0xB5E620F480000000u, 0xE35FA931A0000000u, 0x8E1BC9BF04000000u,
    0xB1A2BC2EC5000000u, 0xDE0B6B3A76400000u, 0x8AC7230489E80000u, 0xAD78EBC5AC620000u,
    0xD8D726B7177A8000u, 0x878678326EAC9000u, 0xA968163F0A57B400u, 0xD3C21BCECCEDA100u,
    0x84595161401484A0u, 0xA56FA5B99019A5C8u, 0xCECB8F27F4200F3Au, 0x813F3978F8940985u,
    0xA18F07D736B90BE6u, 0xC9F2C9CD04674EDFu, 0xFC6F7C4045812297u, 0x9DC5ADA82B70B59Eu,
    0xC5371912364CE306u, 0xF684DF56C3E01BC7u, 0x9A130B963A6C115Du, 0xC097CE7BC90715B4u,
    0xF0BDC21ABB48DB21u, 0x96769950B50D88F5u, 0xBC143FA4E250EB32u, 0xEB194F8E1AE525FEu,
    0x92EFD1B8D0CF37BFu, 0xB7ABC627050305AEu, 0xE596B7B0C643C71Au, 0x8F7E32CE7BEA5C70u,
    0xB35DBF821AE4F38Cu, 0xE0352F62A19E306Fu,
};
static_assert(sizeof powers / sizeof *powers == POWER_COUNT, "one row per power of ten");

static const char two_digits[] = "00010203040506070809101112131415161718192021222324"
                                 "25262728293031323334353637383940414243444546474849"
                                 "50515253545556575859606162636465666768697071727374"
                                 "75767778798081828384858687888990919293949596979899";

typedef struct decimal {
    uint32_t digits; /* at most nine of them, value digits * 10^exponent */
    int exponent;
} decimal;

/* floor(log2(10^e)) and floor(log10(2^q)), floor(log10(3/4 * 2^q)); checked for all e and q here.
 */
static int log2_10(int e)
{
    return (e * 1741647) >> 19;
}

static int log10_2(int q)
{
    return (q * 315653) >> 20;
}

static int log10_2_three_quarters(int q)
{
    return (q * 315653 - 131072) >> 20;
}

/* c4 * 10^e * 2^q, rounded to odd: the floor, its last bit set when something was cut off. The
 * table's error makes a product that is whole exceed it by less than 2^27 units of `shift`;
 * products that are not whole lie further off (checked for every float against exact digits). */
static uint64_t scaled(uint64_t power, uint64_t c4, int shift)
{
    u128 product = (u128)power * c4;
    uint64_t floor = (uint64_t)(product >> shift);
    uint64_t rest = (uint64_t)product & (((uint64_t)1 << shift) - 1);
    return floor | ((rest >> 32) != 0);
}

static decimal shortest(uint32_t c, int q, bool is_lower_closer)
{
    int k = is_lower_closer ? log10_2_three_quarters(q) : log10_2(q);
    uint64_t power = powers[-k - POWER_MIN];
    int shift = 63 - (q + log2_10(-k));
    uint64_t lower = scaled(power, 4 * (uint64_t)c - (is_lower_closer ? 1 : 2), shift);
    uint64_t middle = scaled(power, 4 * (uint64_t)c, shift);
    uint64_t upper = scaled(power, 4 * (uint64_t)c + 2, shift);
    uint64_t open = c & 1; /* ties go to even: an odd c does not own its midpoints */

    uint64_t s = middle / 4;
    uint64_t ten = s / 10;
    bool ten_below_in = lower + open <= 40 * ten;
    bool ten_above_in = 40 * (ten + 1) + open <= upper;
    if (ten_below_in != ten_above_in) {
        return (decimal){(uint32_t)(ten_below_in ? ten : ten + 1), k + 1};
    }
    bool below_in = lower + open <= 4 * s;
    bool above_in = 4 * (s + 1) + open <= upper;
    uint64_t half = 4 * s + 2;
    bool is_below =
        below_in != above_in ? below_in : middle < half || (middle == half && (s & 1) == 0);
    return (decimal){(uint32_t)(is_below ? s : s + 1), k};
}

static decimal decompose(uint32_t magnitude)
{
    uint32_t fraction = magnitude & ((1u << MANTISSA_BITS) - 1);
    int exponent = (int)(magnitude >> MANTISSA_BITS);
    decimal d = exponent == 0
                    ? shortest(fraction, EXPONENT_MIN, false)
                    : shortest(fraction | 1u << MANTISSA_BITS, exponent - 1 + EXPONENT_MIN,
                               fraction == 0 && exponent > 1);
    while (d.digits % 10 == 0) {
        d.digits /= 10;
        d.exponent++;
    }
    return d;
}

/* Writes the digits right-aligned before `end`; returns the first. */
static char *digits_write(uint32_t digits, char *end)
{
    while (digits >= 100) {
        end -= 2;
        memcpy(end, two_digits + 2 * (digits % 100), 2);
        digits /= 100;
    }
    if (digits >= 10) {
        end -= 2;
        memcpy(end, two_digits + 2 * digits, 2);
    } else {
        *--end = (char)('0' + digits);
    }
    return end;
}

static char *exponent_form(char *p, const char *digits, int n, int point)
{
    *p++ = digits[0];
    if (n > 1) {
        *p++ = '.';
        memcpy(p, digits + 1, (size_t)n - 1);
        p += n - 1;
    }
    int e = point - 1;
    *p++ = 'e';
    *p++ = e < 0 ? '-' : '+';
    memcpy(p, two_digits + 2 * (e < 0 ? -e : e), 2);
    return p + 2;
}

/* point: how many digits stand before the decimal point, may be negative or past the digits. */
static char *fixed_form(char *p, const char *digits, int n, int point)
{
    if (point <= 0) {
        memcpy(p, "0.000", 5);
        p += 2 - point;
        memcpy(p, digits, (size_t)n);
        return p + n;
    }
    int n_whole = n < point ? n : point;
    memcpy(p, digits, (size_t)n_whole);
    memset(p + n_whole, '0', (size_t)(point - n_whole));
    p += point;
    *p++ = '.';
    if (n <= point) {
        *p++ = '0';
        return p;
    }
    memcpy(p, digits + point, (size_t)(n - point));
    return p + (n - point);
}

size_t pr_number_write(float x, char *dst)
{
    assert(dst);
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude >= 0x7F800000u) {
        memcpy(dst, "null", 4);
        return 4;
    }
    char *p = dst;
    if (bits != magnitude) *p++ = '-';
    if (magnitude == 0) {
        memcpy(p, "0.0", 3);
        return (size_t)(p + 3 - dst);
    }
    decimal d = decompose(magnitude);
    char digits[12];
    char *end = digits + sizeof digits;
    char *first = digits_write(d.digits, end);
    int n = (int)(end - first);
    int point = n + d.exponent;
    p = point > -4 && point <= 16 ? fixed_form(p, first, n, point)
                                  : exponent_form(p, first, n, point);
    return (size_t)(p - dst);
}
