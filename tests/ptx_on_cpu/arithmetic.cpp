// Arithmetic, comparisons, bits and moves.
#include <algorithm>
#include <cmath>

#include "lanes.h"

namespace ptx {
namespace {

#define UNARY(NAME, EXPRESSION) \
    struct NAME {               \
        template <class D, class A> static D of(A a) { return D(EXPRESSION); } \
    };
#define BINARY(NAME, EXPRESSION) \
    struct NAME {                \
        template <class D, class A, class B> static D of(A a, B b) { return D(EXPRESSION); } \
    };
#define TERNARY(NAME, EXPRESSION) \
    struct NAME {                 \
        template <class D, class A, class B, class C> static D of(A a, B b, C c) { return D(EXPRESSION); } \
    };

template <class T> bool nan(T x) { return x != x; }

UNARY(Same, a)
UNARY(Minus, D(0) - a)
UNARY(Inverse, ~a)
UNARY(Magnitude, a < A(0) ? -a : a)
UNARY(Root, std::sqrt(a))
UNARY(Reciprocal, D(1) / a)
UNARY(RootReciprocal, D(1) / std::sqrt(a))
UNARY(Log2, std::log2(a))
UNARY(Sine, std::sin(a))
UNARY(Cosine, std::cos(a))
UNARY(LeadingZeros, a ? __builtin_clz(a) : 32)
UNARY(Highest, a ? 31 - __builtin_clz(a) : -1)
UNARY(ShiftToHighest, a ? __builtin_clz(a) : -1)
UNARY(Population, __builtin_popcount(a))
BINARY(Plus, a + b)
BINARY(Less, a - b)
BINARY(Times, a * b)
BINARY(Over, a / b)
BINARY(And, a & b)
BINARY(Or, a | b)
BINARY(Xor, a ^ b)
BINARY(WholeOver, b == B(0) ? D(-1) : b == B(-1) && std::is_signed<B>::value ? D(0 - std::make_unsigned_t<A>(a)) : D(a / b))
BINARY(Remainder, b == B(0) ? D(a) : b == B(-1) && std::is_signed<B>::value ? D(0) : D(a % b))
BINARY(High, (D)((std::conditional_t<std::is_signed<A>::value, int64_t, uint64_t>(a) * b) >> 32))
BINARY(Wide, D(a) * D(b))
BINARY(Smaller, b < a ? b : a)
BINARY(Larger, a < b ? b : a)
BINARY(SmallerNumber, nan(a) ? b : nan(b) ? a : b < a ? b : a)
BINARY(LargerNumber, nan(a) ? b : nan(b) ? a : a < b ? b : a)
BINARY(Left, b >= 8 * sizeof(A) ? D(0) : D(a << (b & (8 * sizeof(A) - 1))))
BINARY(Right, D(a >> (b >= 8 * sizeof(A) ? 8 * sizeof(A) - 1 : b)))
BINARY(RightZeros, b >= 8 * sizeof(A) ? D(0) : D(a >> (b & (8 * sizeof(A) - 1))))
TERNARY(Fused, std::fma(a, b, c))
TERNARY(TimesPlus, D(a * b) + D(c))
TERNARY(WideTimesPlus, D(a) * D(b) + D(c))
TERNARY(Choice, c ? a : b)
TERNARY(Funnel, (uint64_t(b) << 32 | a) >> (c & 31))
// Comparisons give -1 or 0.
BINARY(Equal, -(a == b))
BINARY(Unequal, -(a < b || a > b))  // not of NaN
BINARY(Below, -(a < b))
BINARY(UpTo, -(a <= b))
BINARY(Above, -(a > b))
BINARY(From, -(a >= b))
BINARY(EqualOrNan, -!(a < b || a > b))
BINARY(UnequalOrNan, -!(a == b))
BINARY(BelowOrNan, -!(a >= b))
BINARY(UpToOrNan, -!(a > b))
BINARY(AboveOrNan, -!(a <= b))
BINARY(FromOrNan, -!(a < b))
BINARY(Numbers, -(a == a && b == b))
BINARY(AnyNan, -(a != a || b != b))

// 2^x to two units in the last place, as the hardware's; in a form that is vectorized.
struct PowerOfTwo {
    template <class D, class A> static D of(A x) {
        const float clamped = x < -150.f ? -150.f : x > 129.f ? 129.f : x;
        const float whole = std::floor(clamped + 0.5f), part = clamped - whole;
        float r = 1.535336188319500e-4f;
        r = r * part + 1.339887440266574e-3f;
        r = r * part + 9.618437357674640e-3f;
        r = r * part + 5.550332471162809e-2f;
        r = r * part + 2.402264791363012e-1f;
        r = r * part + 6.931472028550421e-1f;
        r = r * part + 1.0f;
        // In two steps, so that small powers become denormal and large ones infinite.
        const int32_t n = int32_t(whole), half = n >> 1;
        const int32_t first = (half + 127) << 23, second = (n - half + 127) << 23;
        float f, g;
        std::memcpy(&f, &first, 4);
        std::memcpy(&g, &second, 4);
        const float scaled = r * f * g;
        return x != x ? x : scaled;
    }
};
struct Reversed {
    template <class D, class A> static D of(A x) {
        uint32_t r = x;
        r = (r >> 1 & 0x55555555u) | (r & 0x55555555u) << 1;
        r = (r >> 2 & 0x33333333u) | (r & 0x33333333u) << 2;
        r = (r >> 4 & 0x0f0f0f0fu) | (r & 0x0f0f0f0fu) << 4;
        return __builtin_bswap32(r);
    }
};

void unpack(Warp& w, const Op& op) {  // {dst, b} = a
    const uint64_t* a = w.lanes<uint64_t>(op.a);
    uint32_t *low = w.lanes<uint32_t>(op.dst), *high = w.lanes<uint32_t>(op.b);
    each_lane(w.active, [&](int l) { low[l] = uint32_t(a[l]), high[l] = uint32_t(a[l] >> 32); });
}
void pack(Warp& w, const Op& op) {  // dst = {a, b}
    const uint32_t *low = w.lanes<uint32_t>(op.a), *high = w.lanes<uint32_t>(op.b);
    uint64_t* d = w.lanes<uint64_t>(op.dst);
    each_lane(w.active, [&](int l) { d[l] = uint64_t(high[l]) << 32 | low[l]; });
}

using i16 = int16_t;
using u16 = uint16_t;
using i32 = int32_t;
using u32 = uint32_t;
using i64 = int64_t;
using u64 = uint64_t;
using f32 = float;
using f64 = double;

#define SAME_WIDTH(NAME, SIGNED, UNSIGNED, BITS, F)                                                                            \
    {NAME ".s" BITS, binary<UNSIGNED, UNSIGNED, UNSIGNED, F>}, {NAME ".u" BITS, binary<UNSIGNED, UNSIGNED, UNSIGNED, F>}, { \
        NAME ".b" BITS, binary<UNSIGNED, UNSIGNED, UNSIGNED, F>                                                                \
    }
#define WHOLE(NAME, F) SAME_WIDTH(NAME, i32, u32, "32", F), SAME_WIDTH(NAME, i64, u64, "64", F), SAME_WIDTH(NAME, i16, u16, "16", F)
#define FLOATS(NAME, F) {NAME ".f32", binary<f32, f32, f32, F>}, {NAME ".f64", binary<f64, f64, f64, F>}
#define SIGNED_AND_NOT(NAME, LOOP, F)                                                                          \
    {NAME ".s32", LOOP<i32, i32, i32, F>}, {NAME ".u32", LOOP<u32, u32, u32, F>}, {NAME ".s64", LOOP<i64, i64, i64, F>}, \
        {NAME ".u64", LOOP<u64, u64, u64, F>}, {NAME ".s16", LOOP<i16, i16, i16, F>}, {NAME ".u16", LOOP<u16, u16, u16, F>}
#define COMPARED(NAME, F)                                                                                             \
    {NAME ".s32", binary<i32, i32, i32, F>}, {NAME ".s64", binary<i32, i64, i64, F>}, {NAME ".s16", binary<i32, i16, i16, F>}, \
        {NAME ".u32", binary<i32, u32, u32, F>}, {NAME ".u64", binary<i32, u64, u64, F>}, {NAME ".u16", binary<i32, u16, u16, F>},  \
        {NAME ".b32", binary<i32, u32, u32, F>}, {NAME ".b64", binary<i32, u64, u64, F>}, {NAME ".b16", binary<i32, u16, u16, F>},  \
        {NAME ".f32", binary<i32, f32, f32, F>}, {NAME ".f64", binary<i32, f64, f64, F>}
#define COMPARED_WITH_NAN(NAME, F) {NAME ".f32", binary<i32, f32, f32, F>}, {NAME ".f64", binary<i32, f64, f64, F>}
#define BITS(NAME, F) SAME_WIDTH(NAME, i32, u32, "32", F), SAME_WIDTH(NAME, i64, u64, "64", F), {NAME ".b16", binary<u16, u16, u16, F>}, \
        {NAME ".pred", binary<u32, u32, u32, F>}
#define ONE(NAME, T, F) {NAME, unary<T, T, F>}

}  // namespace

static void add_moves(std::vector<Named>& all) {
    all.insert(all.end(), {
        ONE("mov.b16", u32, Same), ONE("mov.u16", u32, Same), ONE("mov.s16", u32, Same), ONE("mov.b32", u32, Same), ONE("mov.u32", u32, Same),
        ONE("mov.s32", u32, Same), ONE("mov.f32", u32, Same), ONE("mov.pred", u32, Same), ONE("mov.b64", u64, Same), ONE("mov.u64", u64, Same),
        ONE("mov.s64", u64, Same), ONE("mov.f64", u64, Same), {"unpack", unpack}, {"pack", pack},
        {"selp.b16", ternary<u32, u32, u32, i32, Choice>}, {"selp.u16", ternary<u32, u32, u32, i32, Choice>},
        {"selp.s16", ternary<u32, u32, u32, i32, Choice>}, {"selp.b32", ternary<u32, u32, u32, i32, Choice>},
        {"selp.u32", ternary<u32, u32, u32, i32, Choice>}, {"selp.s32", ternary<u32, u32, u32, i32, Choice>},
        {"selp.f32", ternary<u32, u32, u32, i32, Choice>}, {"selp.b64", ternary<u64, u64, u64, i32, Choice>},
        {"selp.u64", ternary<u64, u64, u64, i32, Choice>}, {"selp.s64", ternary<u64, u64, u64, i32, Choice>},
        {"selp.f64", ternary<u64, u64, u64, i32, Choice>}, {"shf.r.wrap.b32", ternary<u32, u32, u32, u32, Funnel>},
    });
}

static void add_comparisons(std::vector<Named>& all) {
    all.insert(all.end(), {
        COMPARED("setp.eq", Equal), COMPARED("setp.ne", Unequal), COMPARED("setp.lt", Below), COMPARED("setp.le", UpTo),
        COMPARED("setp.gt", Above), COMPARED("setp.ge", From), COMPARED_WITH_NAN("setp.equ", EqualOrNan),
        COMPARED_WITH_NAN("setp.neu", UnequalOrNan), COMPARED_WITH_NAN("setp.ltu", BelowOrNan), COMPARED_WITH_NAN("setp.leu", UpToOrNan),
        COMPARED_WITH_NAN("setp.gtu", AboveOrNan), COMPARED_WITH_NAN("setp.geu", FromOrNan), COMPARED_WITH_NAN("setp.num", Numbers),
        COMPARED_WITH_NAN("setp.nan", AnyNan), {"setp.lo.u32", binary<i32, u32, u32, Below>}, {"setp.ls.u32", binary<i32, u32, u32, UpTo>},
        {"setp.hi.u32", binary<i32, u32, u32, Above>}, {"setp.hs.u32", binary<i32, u32, u32, From>},
    });
}

static void add_bits(std::vector<Named>& all) {
    all.insert(all.end(), {
        BITS("and", And), BITS("or", Or), BITS("xor", Xor), ONE("not.pred", u32, Inverse), ONE("not.b16", u16, Inverse), ONE("not.b32", u32, Inverse),
        ONE("not.b64", u64, Inverse), {"shl.b16", binary<u16, u16, u32, Left>}, {"shl.b32", binary<u32, u32, u32, Left>},
        {"shl.b64", binary<u64, u64, u32, Left>}, {"shr.s16", binary<i16, i16, u32, Right>}, {"shr.s32", binary<i32, i32, u32, Right>},
        {"shr.s64", binary<i64, i64, u32, Right>}, {"shr.u16", binary<u16, u16, u32, RightZeros>}, {"shr.u32", binary<u32, u32, u32, RightZeros>},
        {"shr.u64", binary<u64, u64, u32, RightZeros>}, {"shr.b32", binary<u32, u32, u32, RightZeros>}, {"shr.b64", binary<u64, u64, u32, RightZeros>},
        {"brev.b32", unary<u32, u32, Reversed>}, {"clz.b32", unary_each<u32, u32, LeadingZeros>}, {"popc.b32", unary<u32, u32, Population>},
        {"bfind.u32", unary_each<u32, u32, Highest>}, {"bfind.shiftamt.u32", unary_each<u32, u32, ShiftToHighest>},
    });
}

void add_arithmetic(std::vector<Named>& all) {
    add_moves(all);
    add_comparisons(all);
    add_bits(all);
    all.insert(all.end(), {
        WHOLE("add", Plus), WHOLE("sub", Less), WHOLE("mul.lo", Times), FLOATS("add", Plus), FLOATS("sub", Less), FLOATS("mul", Times),
        FLOATS("div", Over), FLOATS("min", SmallerNumber), FLOATS("max", LargerNumber), SIGNED_AND_NOT("min", binary, Smaller),
        SIGNED_AND_NOT("max", binary, Larger), SIGNED_AND_NOT("div", binary_each, WholeOver), SIGNED_AND_NOT("rem", binary_each, Remainder),
        {"mul.hi.s32", binary<i32, i32, i32, High>}, {"mul.hi.u32", binary<u32, u32, u32, High>}, {"mul.wide.s32", binary<i64, i32, i32, Wide>},
        {"mul.wide.u32", binary<u64, u32, u32, Wide>}, {"mul.wide.s16", binary<i32, i16, i16, Wide>}, {"mul.wide.u16", binary<u32, u16, u16, Wide>},
        {"mad.lo.s32", ternary<u32, u32, u32, u32, TimesPlus>}, {"mad.lo.u32", ternary<u32, u32, u32, u32, TimesPlus>},
        {"mad.lo.s64", ternary<u64, u64, u64, u64, TimesPlus>}, {"mad.lo.u64", ternary<u64, u64, u64, u64, TimesPlus>},
        {"mad.wide.s32", ternary<i64, i32, i32, i64, WideTimesPlus>}, {"mad.wide.u32", ternary<u64, u32, u32, u64, WideTimesPlus>},
        {"fma.f32", ternary<f32, f32, f32, f32, Fused>}, {"fma.f64", ternary<f64, f64, f64, f64, Fused>},
        {"neg.s32", unary<u32, u32, Minus>}, {"neg.s64", unary<u64, u64, Minus>}, {"neg.s16", unary<u16, u16, Minus>},
        {"abs.s32", unary<i32, i32, Magnitude>}, {"abs.s64", unary<i64, i64, Magnitude>},
        {"rcp.f32", unary<f32, f32, Reciprocal>}, {"rcp.f64", unary<f64, f64, Reciprocal>}, {"sqrt.f32", unary<f32, f32, Root>},
        {"sqrt.f64", unary<f64, f64, Root>}, {"rsqrt.approx.f32", unary<f32, f32, RootReciprocal>}, {"ex2.approx.f32", unary<f32, f32, PowerOfTwo>},
        {"lg2.approx.f32", unary_each<f32, f32, Log2>}, {"sin.approx.f32", unary_each<f32, f32, Sine>}, {"cos.approx.f32", unary_each<f32, f32, Cosine>},
    });
}

}  // namespace ptx
