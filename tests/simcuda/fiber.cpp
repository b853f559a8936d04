#include "tests/simcuda/fiber.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

/* ---- the switch ---- */
#if defined(__x86_64__)

/* Saves what a call must keep (System V AMD64 ABI, section 3.2.1), changes stacks, restores.
 * 10 times as fast as swapcontext, which makes a system call for the signal mask. */
extern "C" void sim_stack_switch(void **from, void *to);
asm(".text\n"
    ".globl sim_stack_switch\n"
    ".hidden sim_stack_switch\n"
    ".type sim_stack_switch, @function\n"
    "sim_stack_switch:\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    ret\n"
    ".size sim_stack_switch, .-sim_stack_switch\n");

static void context_init(fiber *f)
{
    const uintptr_t top = ((uintptr_t)f->stack + f->stack_bytes) & ~(uintptr_t)15;
    void **slot = (void **)top;
    *--slot = NULL;               /* the return address of entry, which never returns */
    *--slot = (void *)f->entry;   /* where the first switch goes; the stack is then 8 mod 16 */
    for (int i = 0; i < 6; i++) *--slot = NULL;
    f->context = slot;
}

static void context_deinit(fiber *f)
{
    f->context = NULL;
}

static void context_switch(void **from, void *to)
{
    sim_stack_switch(from, to);
}

#else
#include <ucontext.h>

static void context_init(fiber *f)
{
    ucontext_t *c = (ucontext_t *)calloc(1, sizeof *c);
    assert(c);
    getcontext(c);
    c->uc_stack.ss_sp = f->stack;
    c->uc_stack.ss_size = f->stack_bytes;
    makecontext(c, f->entry, 0);
    f->context = c;
}

static void context_deinit(fiber *f)
{
    free(f->context);
    f->context = NULL;
}

static void context_switch(void **from, void *to)
{
    if (!*from) *from = calloc(1, sizeof(ucontext_t)); /* the host's, kept for the process */
    assert(*from);
    swapcontext((ucontext_t *)*from, (const ucontext_t *)to);
}
#endif

/* ---- the sanitizers ---- */
#ifdef SIM_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef SIM_TSAN
extern "C" {
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
}
enum { NO_SYNC = 1 };
#endif

void fiber_release(void *at)
{
#ifdef SIM_TSAN
    __tsan_release(at);
#else
    (void)at;
#endif
}

void fiber_acquire(void *at)
{
#ifdef SIM_TSAN
    __tsan_acquire(at);
#else
    (void)at;
#endif
}

void fiber_ignore_begin(void)
{
#ifdef SIM_TSAN
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
}

void fiber_ignore_end(void)
{
#ifdef SIM_TSAN
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}

/* ---- fibers ---- */
void fiber_init(fiber *f, void *stack, size_t stack_bytes, void (*entry)(void))
{
    context_deinit(f);
    f->stack = stack;
    f->stack_bytes = stack_bytes;
    f->entry = entry;
    context_init(f);
#ifdef SIM_TSAN
    if (!f->tsan) f->tsan = __tsan_create_fiber(0);
#endif
}

void fiber_deinit(fiber *f)
{
    context_deinit(f);
#ifdef SIM_TSAN
    if (f->tsan) __tsan_destroy_fiber(f->tsan);
#endif
    f->tsan = NULL;
}

void fiber_resume(fiber_host *host, fiber *f)
{
#ifdef SIM_ASAN
    __sanitizer_start_switch_fiber(&host->fake, f->stack, f->stack_bytes);
#endif
#ifdef SIM_TSAN
    host->tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(f->tsan, NO_SYNC);
#endif
    context_switch(&host->context, f->context);
#ifdef SIM_ASAN
    __sanitizer_finish_switch_fiber(host->fake, NULL, NULL);
#endif
}

void fiber_entered(fiber_host *host, fiber *f)
{
#ifdef SIM_ASAN
    __sanitizer_finish_switch_fiber(f->fake, &host->stack, &host->stack_bytes);
#else
    (void)host;
    (void)f;
#endif
}

void fiber_yield(fiber_host *host, fiber *f, bool is_last)
{
#ifdef SIM_ASAN
    __sanitizer_start_switch_fiber(is_last ? NULL : &f->fake, host->stack, host->stack_bytes);
#else
    (void)is_last;
#endif
#ifdef SIM_TSAN
    __tsan_switch_to_fiber(host->tsan, NO_SYNC);
#endif
    context_switch(&f->context, host->context);
    fiber_entered(host, f);
}
