/*
 * sha256.h: the digest of FIPS 180-4, for API keys and for the identity of pods.
 * The whole text must be at hand; there is no streaming form.
 */
#ifndef BRIX_SHA256_H
#define BRIX_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define BRIX_DIGEST 32

void brix_sha256(const char *bytes, size_t length, uint8_t digest[BRIX_DIGEST]);
/* 1 when equal; the time does not depend on where they differ. */
int brix_digest_equal(const uint8_t a[BRIX_DIGEST], const uint8_t b[BRIX_DIGEST]);

#endif
