/* Forced into every C++ file of mlx-c (`-include`), and read by bindgen before mlx-c's headers.
 *
 * mlx-c is written for Apple's clang. Two things differ with g++ on Linux:
 *
 * 1. g++ before 13 has no <format>; {fmt}, which became std::format, stands in.
 * 2. mlx/c/half.h offers float16_t and bfloat16_t where the compiler has them as ARM types, and
 *    elsewhere leaves out the functions mlx-rs calls. Here they are MLX's own half types, on every
 *    CPU: only pointers to them cross mlx-c's interface, so any two-byte type serves C and Rust.
 */
#define MLX_HALF_H
#define HAS_FLOAT16
#define HAS_BFLOAT16

#ifdef __cplusplus

#if __has_include(<format>)
#include <format>
#else
#define FMT_HEADER_ONLY
#include <fmt/format.h>
namespace std {
using fmt::format;
}
#endif

#include "mlx/types/half_types.h"
typedef mlx::core::float16_t float16_t;
typedef mlx::core::bfloat16_t bfloat16_t;

#else

typedef __fp16 float16_t;
typedef unsigned short bfloat16_t;

#endif
