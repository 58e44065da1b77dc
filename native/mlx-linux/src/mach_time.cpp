// mlx_rs::random seeds its default key from Darwin's clock. This is that clock for Linux.

#include <chrono>
#include <cstdint>

// Nanoseconds of the monotonic clock.
extern "C" std::uint64_t mach_approximate_time() {
  auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}
