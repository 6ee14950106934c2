// What CUDA's words in src/cuda/kernels.cu mean on a machine without a GPU. See emulator.cpp.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

typedef unsigned long long u64;
typedef unsigned int u32;

// Tests run side by side, each on a device of its own.
static thread_local int emulated_block, emulated_threads, emulated_order;
static thread_local double *emulated_shared;

// Threads of a phase run one after the other, in one of three orders: a result that depends on the order is a race.
static inline int emulated_place(int n, int count) {
    switch (emulated_order) {
    case 0: return n;
    case 1: return count - 1 - n;
    // A stride that shares no factor with powers of two, from the middle on; other counts go round by one.
    default: return (count & (count - 1)) == 0 ? (n * 37 + count / 2) & (count - 1) : (n + count / 2) % count;
    }
}

#define KERNEL(name) static void name
#define DEVICE static
#define BLOCK emulated_block
#define THREADS emulated_threads
#define BARRIER() ((void)0)
#define EACH_THREAD(t) \
    for (int n_##t = 0; n_##t < emulated_threads; n_##t++) \
        for (int t = emulated_place(n_##t, emulated_threads), once = 1; once; once = 0)
#define SHARED emulated_shared
static inline void COUNT(u32 *address, u32 value) { *address += value; }
#define SYSTEM_FENCE() ((void)0)
