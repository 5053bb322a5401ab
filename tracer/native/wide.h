/* Functions that are compiled for processors with AVX2 and FMA, beside a plain form that comes to the same bits:
 *
 *     #ifdef HAS_WIDE
 *         if (can_be_wide())
 *             ...
 *     #endif
 */

#ifndef TRACER_NATIVE_WIDE_H
#define TRACER_NATIVE_WIDE_H

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_WIDE
#include <immintrin.h>

#define WIDE __attribute__((target("avx2,fma")))
#define WIDE_INLINE WIDE __attribute__((always_inline)) static inline

/* Whether this processor has both. */
static inline int can_be_wide(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

#endif
