import { ABI, type Run } from "./protocol";
import { Random } from "./random";
import { Sink } from "./sink";

// WASI error numbers the guest sees. Engines must agree on them, because a
// guest's reaction to an error is fuel.
const OK = 0;
const EBADF = 8;
const EFAULT = 21;
const EINVAL = 28;
const ENOSYS = 52;
const ESPIPE = 70;

// Functions of preview 1 that can be imported, because compilers link them in,
// and answer ENOSYS without touching memory.
const absent =
  "clock_res_get fd_advise fd_allocate fd_datasync fd_fdstat_set_rights fd_filestat_get fd_filestat_set_size " +
  "fd_filestat_set_times fd_pread fd_pwrite fd_readdir fd_renumber fd_sync fd_tell path_create_directory " +
  "path_filestat_get path_filestat_set_times path_link path_open path_readlink path_remove_directory path_rename " +
  "path_symlink path_unlink_file proc_raise sock_accept sock_recv sock_send sock_shutdown";

/** Entries of a vector of buffers or of a poll, at most. */
const maxEntries = 1024;

/** What such an entry costs: as much as to move so many bytes. */
const entryBytes = 80;

/** argv[0], the only argument, with its zero: the same for every module. */
const programName = new TextEncoder().encode("task\0");

const forever = 0xffffffffffffffffn;

/** proc_exit. */
export class Exit {
  constructor(readonly code: number) {}
}

/** Output above its limit. */
export class BadOutput {}

/** env.abort. */
export class Abort {}

/** Less fuel than the host's work costs. */
export class Spent {}

/** What the host sees of an instance. */
export interface Instance {
  memory: WebAssembly.Memory;
  fuel: WebAssembly.Global<"i64">;
  /** All fuel that is left, handed out or not. */
  remaining(): number;
}

type Do = (at: number, size: number) => boolean;

/**
 * The host side of one run: what the imports read and write. It does to the
 * byte, and to the unit of fuel, what the native engine's does.
 */
export class Guest {
  /** The standard output of a command. */
  readonly stdout = new Sink();
  readonly log = new Sink();
  private overflow = false;
  private read = 0;
  private clock = 0n;
  private readonly input: Uint8Array;
  private readonly command: boolean;
  private readonly random: Random;
  private instance!: Instance;
  private bytes: Uint8Array = new Uint8Array(0);
  private view = new DataView(this.bytes.buffer);

  constructor(
    private readonly run: Run,
    private readonly progress: (permille: number) => void,
    private readonly logged: (bytes: Uint8Array) => void = () => {},
  ) {
    this.command = run.abi === ABI.command;
    this.input = this.command ? run.input : new Uint8Array(0);
    this.random = new Random(run.seed);
  }

  /** Must precede the first call into the guest. */
  attach(instance: Instance): void {
    this.instance = instance;
  }

  /** A range of linear memory; undefined when it is not inside. Valid until the guest runs again. */
  range(at: number, size: number): Uint8Array | undefined {
    const buffer = this.instance.memory.buffer;
    if (this.bytes.buffer !== buffer) {
      this.bytes = new Uint8Array(buffer);
      this.view = new DataView(buffer);
    }
    return at + size <= this.bytes.length ? this.bytes.subarray(at, at + size) : undefined;
  }

  /** Imports by module and name. Parameters come as signed numbers. */
  imports(): Record<string, Record<string, (...args: never[]) => unknown>> {
    const wasi: Record<string, (...args: never[]) => unknown> = {};
    for (const name of absent.split(" ")) wasi[name] = () => ENOSYS;
    const stdio = (fd: number, e: number): number => (fd >>> 0 > 2 ? EBADF : e);
    wasi.environ_get = wasi.sched_yield = () => OK;
    wasi.args_sizes_get = (count: number, size: number) => this.put32(count, 1) || this.put32(size, programName.length);
    wasi.environ_sizes_get = (count: number, size: number) => this.put32(count, 0) || this.put32(size, 0);
    wasi.args_get = (argv: number, at: number) => {
      const e = this.put32(argv, at >>> 0);
      if (e !== OK) return e;
      const b = this.range(at >>> 0, programName.length);
      b?.set(programName);
      return b ? OK : EFAULT;
    };
    wasi.fd_prestat_get = wasi.fd_prestat_dir_name = () => EBADF;
    wasi.fd_close = wasi.fd_fdstat_set_flags = (fd: number) => stdio(fd, OK);
    wasi.fd_seek = (fd: number) => stdio(fd, ESPIPE);
    wasi.clock_time_get = (id: number, _precision: bigint, at: number) => {
      if (id >>> 0 > 3) return EINVAL;
      const t = this.clock;
      this.clock = BigInt.asUintN(64, t + 1000n);
      return this.put64(at, t);
    };
    wasi.random_get = (at: number, size: number) => {
      const b = this.range(at >>> 0, size >>> 0);
      if (!b) return EFAULT;
      this.charge(b.length); // before the work: it may be gigabytes
      this.random.fill(b);
      return OK;
    };
    wasi.fd_fdstat_get = (fd: number, at: number) => {
      if (fd >>> 0 > 2) return EBADF;
      const b = this.range(at >>> 0, 24);
      if (!b) return EFAULT;
      // a character device with all rights
      b.fill(0, 0, 8);
      b[0] = 2;
      b.fill(0xff, 8);
      return OK;
    };
    wasi.fd_read = (fd: number, iov: number, n: number, nread: number) => this.fdRead(fd, iov >>> 0, n >>> 0, nread);
    wasi.fd_write = (fd: number, iov: number, n: number, nwritten: number) => this.fdWrite(fd, iov >>> 0, n >>> 0, nwritten);
    wasi.poll_oneoff = (from: number, to: number, n: number, nevents: number) => this.poll(from >>> 0, to >>> 0, n >>> 0, nevents);
    wasi.proc_exit = (code: number) => {
      throw new Exit(code);
    };
    return {
      wasi_snapshot_preview1: wasi,
      edgenet: { progress: (permille: number) => this.progress(Math.min(permille >>> 0, 1000)) },
      env: {
        abort: (_message: number, _file: number, line: number, column: number) => {
          this.write(new TextEncoder().encode(`abort at ${line >>> 0}:${column >>> 0}\n`));
          throw new Abort();
        },
      },
    };
  }

  /** Takes the price of moving n bytes, and ends a run that cannot pay it. */
  private charge(n: number): void {
    const price = n >>> 3;
    if (price === 0) return;
    this.instance.fuel.value -= BigInt(price);
    if (this.instance.remaining() < 0) throw new Spent();
  }

  /** charge, and what ends a run with too much output; passes errno on. */
  private settle(n: number, errno: number): number {
    this.charge(n);
    if (this.overflow) throw new BadOutput();
    return errno;
  }

  private put32(at: number, v: number): number {
    if (!this.range(at >>> 0, 4)) return EFAULT;
    this.view.setUint32(at >>> 0, v, true);
    return OK;
  }

  private put64(at: number, v: bigint): number {
    if (!this.range(at >>> 0, 8)) return EFAULT;
    this.view.setBigUint64(at >>> 0, v, true);
    return OK;
  }

  private write(b: Uint8Array): void {
    const part = b.slice(0, this.run.limits.log - this.log.length);
    this.log.append(part);
    if (part.length > 0) this.logged(part);
  }

  /**
   * Calls each for every buffer of a vector until it returns false. Entries
   * are read one by one: an earlier buffer may overlap them.
   */
  private vector(at: number, n: number, each: Do): number {
    if (n > maxEntries) return EINVAL;
    if (!this.range(at, 8 * n)) return EFAULT;
    this.charge(entryBytes * n);
    for (let i = 0; i < n; i++, at += 8) {
      const buffer = this.view.getUint32(at, true);
      const size = this.view.getUint32(at + 4, true);
      if (buffer + size > this.bytes.length) return EFAULT;
      if (!each(buffer, size)) break;
    }
    return OK;
  }

  private fdRead(fd: number, iov: number, n: number, nread: number): number {
    if (fd !== 0) return EBADF;
    let total = 0;
    const e = this.vector(iov, n, (at, size) => {
      const part = this.input.subarray(this.read, this.read + size);
      this.bytes.set(part, at);
      this.read += part.length;
      total += part.length;
      return part.length === size;
    });
    return this.settle(total, e || this.put32(nread, total));
  }

  private fdWrite(fd: number, iov: number, n: number, nwritten: number): number {
    if (fd !== 1 && fd !== 2) return EBADF;
    let total = 0; // wraps at 2^32
    const e = this.vector(iov, n, (at, size) => {
      total = (total + size) >>> 0;
      if (fd === 2 || !this.command) {
        if (size > 0 && this.log.length < this.run.limits.log) this.write(this.bytes.subarray(at, at + size));
        return true;
      }
      const room = this.run.limits.output - this.stdout.length;
      this.stdout.append(this.bytes.subarray(at, at + Math.min(size, room)));
      this.overflow = size > room;
      return !this.overflow;
    });
    return this.settle(total, e || this.put32(nwritten, total));
  }

  /**
   * Streams are always ready; without one, the earliest timers fire and the
   * virtual clock moves there.
   */
  private poll(from: number, to: number, n: number, nevents: number): number {
    if (n === 0 || n > maxEntries) return EINVAL;
    const events = this.range(to, 32 * n);
    if (!events || !this.range(from, 48 * n)) return EFAULT;
    const view = this.view;
    interface Event {
      user: bigint;
      errno?: number;
      kind?: number;
      size?: number;
      at?: bigint;
    }
    // Decide before writing: the two ranges may overlap.
    let ready: Event[] = [];
    const timers: Event[] = [];
    let earliest = forever;
    for (let i = 0; i < n; i++, from += 48) {
      const user = view.getBigUint64(from, true);
      const kind = view.getUint8(from + 8);
      if (kind === 0) {
        let at = view.getBigUint64(from + 24, true);
        if ((view.getUint16(from + 40, true) & 1) === 0) at += this.clock; // relative
        if (at > forever) at = forever;
        timers.push({ user, at });
        if (at < earliest) earliest = at;
      } else if (kind > 2) {
        ready.push({ user, errno: EINVAL, kind });
      } else {
        const fd = view.getUint32(from + 16, true);
        ready.push({
          user,
          kind,
          errno: fd > 2 ? EBADF : OK,
          size: kind === 1 && fd === 0 ? this.input.length - this.read : 0,
        });
      }
    }
    if (ready.length === 0) {
      if (earliest > this.clock) this.clock = earliest;
      ready = timers.filter((t) => t.at! <= this.clock);
    }
    for (const e of ready) {
      this.range(to, 32)!.fill(0);
      view.setBigUint64(to, e.user, true);
      view.setUint16(to + 8, e.errno ?? OK, true);
      view.setUint8(to + 10, e.kind ?? 0);
      view.setUint32(to + 16, e.size ?? 0, true);
      to += 32;
    }
    return this.settle(entryBytes * n, this.put32(nevents, ready.length));
  }
}
