#define _GNU_SOURCE
#include "stores.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILES 64

static struct {
    uintptr_t from, to;
} mapped[FILES];
static long seen, last;

void stores_arm(long number)
{
    seen = 0;
    last = number;
}

long stores_seen(void)
{
    return seen;
}

static void step(void)
{
    if (++seen == last)
        kill(getpid(), SIGKILL);
}

static void store(const void *at)
{
    uintptr_t place = (uintptr_t)at;
    for (int i = 0; i < FILES; i++)
        if (place - mapped[i].from < mapped[i].to - mapped[i].from) {
            step();
            return;
        }
}

void *__real_mmap(void *address, size_t length, int protection, int flags, int file, off_t offset);
int __real_munmap(void *address, size_t length);
void *__real_memcpy(void *to, const void *from, size_t size);
void *__real_memmove(void *to, const void *from, size_t size);
void *__real_memset(void *to, int byte, size_t size);
int __real_link(const char *from, const char *to);
int __real_rename(const char *from, const char *to);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int file, off_t offset);
int __wrap_munmap(void *address, size_t length);
void *__wrap_memcpy(void *to, const void *from, size_t size);
void *__wrap_memmove(void *to, const void *from, size_t size);
void *__wrap_memset(void *to, int byte, size_t size);
int __wrap_link(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);

void *__wrap_mmap(void *address, size_t length, int protection, int flags, int file, off_t offset)
{
    char *base = __real_mmap(address, length, protection, flags, file, offset);
    for (int i = 0; file >= 0 && base != MAP_FAILED && i < FILES; i++)
        if (mapped[i].to == 0) {
            mapped[i].from = (uintptr_t)base;
            mapped[i].to = (uintptr_t)base + length;
            break;
        }
    return base;
}

int __wrap_munmap(void *address, size_t length)
{
    for (int i = 0; i < FILES; i++)
        if (mapped[i].from == (uintptr_t)address)
            mapped[i].from = mapped[i].to = 0;
    return __real_munmap(address, length);
}

void *__wrap_memcpy(void *to, const void *from, size_t size)
{
    store(to);
    __real_memcpy(to, from, size / 2);
    store(to);
    __real_memcpy((char *)to + size / 2, (const char *)from + size / 2, size - size / 2);
    return to;
}

void *__wrap_memmove(void *to, const void *from, size_t size)
{
    store(to);
    return __real_memmove(to, from, size);
}

void *__wrap_memset(void *to, int byte, size_t size)
{
    store(to);
    __real_memset(to, byte, size / 2);
    store(to);
    __real_memset((char *)to + size / 2, byte, size - size / 2);
    return to;
}

int __wrap_link(const char *from, const char *to)
{
    step();
    return __real_link(from, to);
}

int __wrap_rename(const char *from, const char *to)
{
    step();
    return __real_rename(from, to);
}

/* What the compiler calls. */
#define ACCESS(name) \
    void __tsan_##name(void *at); \
    void __tsan_##name(void *at)
#define NOTHING(name) \
    ACCESS(name) { (void)at; }
#define STORES(name) \
    ACCESS(name) { store(at); }

NOTHING(func_entry)
NOTHING(read1)
NOTHING(read2)
NOTHING(read4)
NOTHING(read8)
NOTHING(read16)
STORES(write1)
STORES(write2)
STORES(write4)
STORES(write8)
STORES(write16)

void __tsan_init(void);
void __tsan_func_exit(void);
void __tsan_read_range(void *at, unsigned long size);
void __tsan_write_range(void *at, unsigned long size);

void __tsan_init(void)
{
}

void __tsan_func_exit(void)
{
}

void __tsan_read_range(void *at, unsigned long size)
{
    (void)at;
    (void)size;
}

void __tsan_write_range(void *at, unsigned long size)
{
    (void)size;
    store(at);
}

#define ATOMIC(bits, name, value, arguments, body) \
    value __tsan_atomic##bits##_##name arguments; \
    value __tsan_atomic##bits##_##name arguments body
#define ATOMICS(bits, type) \
    ATOMIC(bits, load, type, (const volatile type *at, int order), \
           { (void)order; return __atomic_load_n(at, __ATOMIC_SEQ_CST); }) \
    ATOMIC(bits, store, void, (volatile type *at, type value, int order), \
           { (void)order; store((const void *)(uintptr_t)at); __atomic_store_n(at, value, __ATOMIC_SEQ_CST); }) \
    ATOMIC(bits, exchange, type, (volatile type *at, type value, int order), \
           { (void)order; store((const void *)(uintptr_t)at); return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST); }) \
    ATOMIC(bits, fetch_add, type, (volatile type *at, type value, int order), \
           { (void)order; store((const void *)(uintptr_t)at); return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST); }) \
    ATOMIC(bits, fetch_sub, type, (volatile type *at, type value, int order), \
           { (void)order; store((const void *)(uintptr_t)at); return __atomic_fetch_sub(at, value, __ATOMIC_SEQ_CST); }) \
    ATOMIC(bits, fetch_or, type, (volatile type *at, type value, int order), \
           { (void)order; store((const void *)(uintptr_t)at); return __atomic_fetch_or(at, value, __ATOMIC_SEQ_CST); }) \
    ATOMIC(bits, fetch_and, type, (volatile type *at, type value, int order), \
           { (void)order; store((const void *)(uintptr_t)at); return __atomic_fetch_and(at, value, __ATOMIC_SEQ_CST); }) \
    ATOMIC(bits, compare_exchange_strong, int, (volatile type *at, type *expected, type value, int good, int bad), \
           { (void)good; (void)bad; store((const void *)(uintptr_t)at); \
             return __atomic_compare_exchange_n(at, expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }) \
    ATOMIC(bits, compare_exchange_weak, int, (volatile type *at, type *expected, type value, int good, int bad), \
           { (void)good; (void)bad; store((const void *)(uintptr_t)at); \
             return __atomic_compare_exchange_n(at, expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); })

ATOMICS(8, uint8_t)
ATOMICS(16, uint16_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)

void __tsan_atomic_thread_fence(int order);

void __tsan_atomic_thread_fence(int order)
{
    (void)order;
    atomic_thread_fence(memory_order_seq_cst);
}
