/* quiet.c: the hooks of -fsanitize-coverage for programs that do not look at coverage. */
#include <stdint.h>

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
}

#define COMPARES(name, type) \
    void __sanitizer_cov_trace_##name(type left, type right); \
    void __sanitizer_cov_trace_##name(type left, type right) \
    { \
        (void)left; \
        (void)right; \
    }
COMPARES(cmp1, uint8_t)
COMPARES(cmp2, uint16_t)
COMPARES(cmp4, uint32_t)
COMPARES(cmp8, uint64_t)
COMPARES(const_cmp1, uint8_t)
COMPARES(const_cmp2, uint16_t)
COMPARES(const_cmp4, uint32_t)
COMPARES(const_cmp8, uint64_t)
COMPARES(cmpf, float)
COMPARES(cmpd, double)

void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases);
void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases)
{
    (void)value;
    (void)cases;
}
