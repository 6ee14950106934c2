// Runs the kernels of src/cuda/kernels.cu on the CPU: every block, every thread of every phase.
//
// Shared memory is filled with NaN before every block and has a guarded end, so that what nobody wrote is seen in the result,
// and what was written outside is found.
#include "../../src/cuda/kernels.cu"

enum { DONE = 0, NO_SUCH_KERNEL = 1, WRONG_ARGUMENT = 2, WROTE_OUTSIDE = 3 };

template <typename T>
static int launch(void (*kernel)(const T), const void *argument, unsigned long bytes, int blocks, unsigned long shared) {
    if (bytes != sizeof(T)) return WRONG_ARGUMENT;
    T copy;
    std::memcpy((void *)&copy, argument, sizeof(T));
    std::vector<unsigned char> memory(shared + 64);
    emulated_shared = (double *)memory.data();
    for (int n = 0; n < blocks; n++) {
        emulated_block = emulated_place(n, blocks);
        std::memset(memory.data(), 0xff, memory.size());
        kernel(copy);
        for (unsigned long i = shared; i < memory.size(); i++)
            if (memory[i] != 0xff) return WROTE_OUTSIDE;
    }
    return DONE;
}

#define RUN(name) \
    if (!std::strcmp(kernel, #name)) return launch(name, argument, bytes, blocks, shared)

extern "C" int emulate(const char *kernel, const void *argument, unsigned long bytes, int blocks, int threads, unsigned long shared,
                       int order) {
    emulated_threads = threads;
    emulated_order = order;
    RUN(begin);
    RUN(convert);
    RUN(rows);
    RUN(columns);
    RUN(lags);
    RUN(peak);
    RUN(aim);
    RUN(develop);
    RUN(normalise_channels);
    RUN(finish);
    RUN(accept);
    RUN(judge);
    RUN(deliver);
    RUN(tell);
    RUN(pulse);
    RUN(copy);
    return NO_SUCH_KERNEL;
}
