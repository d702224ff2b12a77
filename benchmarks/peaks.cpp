// What this processor can do at most on one thread: products a second of a kind of number, or bytes a second read.
//
//     peaks int8|bf16|float32
//     peaks read BYTES
//
// The first line printed is JSON: how many products, or bytes, one run is. Then it runs once for every line that it
// reads, and prints the nanoseconds of processor time. Where the processor has no such instruction it ends with code 2.
//
// Products are those of independent chains of sums that stay in registers: VNNI's dot products of UINT8 and INT8,
// AVX512_BF16's of bfloat16, fused multiply-adds of float32. Nothing is loaded, so no network can be faster.

#include <immintrin.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <vector>

constexpr int kChains = 12;  // more than the latency of an instruction times the number of units, fewer than registers
constexpr long kRounds = 300'000;  // about a millisecond
constexpr long kEnoughBytes = 1L << 26;

template <class Sum, class Factor, class Step>
void chains(Factor factor, Step step) {
    Sum sums[kChains] = {};
    asm volatile("" : "+m"(sums));  // else the compiler finds all chains alike and computes one
    for (long round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
        for (int chain = 0; chain < kChains; ++chain) sums[chain] = step(sums[chain], factor);
    }
    asm volatile("" : : "m"(sums));
}

void read_all(const std::vector<std::uint64_t>& values, long times) {
    std::uint64_t found = 0;
    for (long time = 0; time < times; ++time) {
        for (std::uint64_t value : values) found ^= value;
        asm volatile("" : "+r"(found) : : "memory");
    }
}

struct Kind {
    double amount;  // of one run: products or bytes
    std::function<void()> run;
};

Kind kind_of(int count, char** words) {
    if (count == 3 && !std::strcmp(words[1], "read")) {
        const long bytes = std::atol(words[2]);
        const long times = bytes < kEnoughBytes ? kEnoughBytes / bytes : 1;
        std::vector<std::uint64_t> values(bytes / sizeof(std::uint64_t), 1);
        return {double(bytes) * times, [values, times] { read_all(values, times); }};
    }
    const char* name = count == 2 ? words[1] : "";
#if defined(__AVX512VNNI__)
    if (!std::strcmp(name, "int8"))
        return {64.0 * kChains * kRounds, [] {
                    chains<__m512i>(_mm512_set1_epi8(1), [](__m512i sum, __m512i one) {
                        return _mm512_dpbusd_epi32(sum, one, one);
                    });
                }};
#elif defined(__AVXVNNI__)
    if (!std::strcmp(name, "int8"))
        return {32.0 * kChains * kRounds, [] {
                    chains<__m256i>(_mm256_set1_epi8(1), [](__m256i sum, __m256i one) {
                        return _mm256_dpbusd_avx_epi32(sum, one, one);
                    });
                }};
#endif
#if defined(__AVX512BF16__)
    if (!std::strcmp(name, "bf16"))
        return {32.0 * kChains * kRounds, [] {
                    const __m512bh one = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1), _mm512_set1_ps(1));
                    chains<__m512>(one, [](__m512 sum, __m512bh one) { return _mm512_dpbf16_ps(sum, one, one); });
                }};
#endif
#if defined(__AVX512F__)
    if (!std::strcmp(name, "float32"))
        return {16.0 * kChains * kRounds, [] {
                    chains<__m512>(_mm512_set1_ps(1), [](__m512 sum, __m512 one) {
                        return _mm512_fmadd_ps(one, one, sum);
                    });
                }};
#elif defined(__FMA__)
    if (!std::strcmp(name, "float32"))
        return {8.0 * kChains * kRounds, [] {
                    chains<__m256>(_mm256_set1_ps(1), [](__m256 sum, __m256 one) {
                        return _mm256_fmadd_ps(one, one, sum);
                    });
                }};
#endif
    return {0, nullptr};
}

long processor_ns() {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1'000'000'000L + now.tv_nsec;
}

int main(int count, char** words) {
    const Kind kind = kind_of(count, words);
    if (!kind.run) return std::fprintf(stderr, "this processor has no instruction for it\n"), 2;
    kind.run();
    std::printf("{\"amount\": %.0f}\n", kind.amount);
    std::fflush(stdout);
    for (int letter; (letter = std::getchar()) != EOF;) {
        if (letter != '\n') continue;
        const long start = processor_ns();
        kind.run();
        std::printf("%ld\n", processor_ns() - start);
        std::fflush(stdout);
    }
}
