/*
 * stores.h: a process that ends by SIGKILL just before one of its stores into a segment.
 *
 * The kernel is compiled with -fsanitize=thread, so that the compiler announces every access, and linked with stores.c
 * in place of ThreadSanitizer's own library. mmap, memcpy, memmove, memset, link and rename are wrapped by the linker:
 * a store counts when it lies in a mapped file; a copy counts twice, before it and in its middle.
 */
#ifndef BRIX_STORES_H
#define BRIX_STORES_H

/* End the process before the store of this number, from 1; 0: never. Counting begins anew. */
void stores_arm(long number);
/* Stores since then. */
long stores_seen(void);

#endif
