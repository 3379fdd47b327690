// Runs a WASI preview1 command for each request in an instance of its own: stdin is the body, stdout the answer.
// The module was compiled when the worker was loaded.
import module from "function.wasm";

const SUCCESS = 0;
const BAD_FILE = 8;
const ILLEGAL_SEEK = 70;
const CHARACTER_DEVICE = 2;
const FDSTAT_BYTES = 24;
const SUBSCRIPTION_BYTES = 48;
const EVENT_BYTES = 32;
// What crypto.getRandomValues gives in one call.
const RANDOM_BYTES = 65536;
const ARGUMENT = new TextEncoder().encode("function\0");

class Exit extends Error {
  constructor(code) {
    super(`exit code ${code}`);
    this.code = code;
  }
}

class Command {
  constructor(input) {
    this.input = input;
    this.at = 0;
    this.output = [];
  }

  run() {
    const instance = new WebAssembly.Instance(module, { wasi_snapshot_preview1: this.imports() });
    this.memory = instance.exports.memory;
    try {
      instance.exports._start();
    } catch (error) {
      if (!(error instanceof Exit) || error.code !== 0) throw error;
    }
    return this.output.length === 1 ? this.output[0] : new Blob(this.output);
  }

  view() {
    return new DataView(this.memory.buffer);
  }

  bytes(at, length) {
    return new Uint8Array(this.memory.buffer, at >>> 0, length >>> 0);
  }

  // The buffers of an I/O vector.
  *buffers(vector, count) {
    const view = this.view();
    for (let index = 0; index < count; index++) {
      yield this.bytes(view.getUint32(vector + 8 * index, true), view.getUint32(vector + 8 * index + 4, true));
    }
  }

  number(at, value) {
    this.view().setUint32(at, value, true);
    return SUCCESS;
  }

  // `count` strings that are `length` bytes in all.
  sizes(countAt, lengthAt, count, length) {
    this.number(countAt, count);
    return this.number(lengthAt, length);
  }

  imports() {
    const opened = (fd) => (fd <= 2 ? SUCCESS : BAD_FILE);
    return {
      args_sizes_get: (countAt, lengthAt) => this.sizes(countAt, lengthAt, 1, ARGUMENT.length),
      args_get: (pointersAt, at) => {
        this.bytes(at, ARGUMENT.length).set(ARGUMENT);
        return this.number(pointersAt, at);
      },
      environ_sizes_get: (countAt, lengthAt) => this.sizes(countAt, lengthAt, 0, 0),
      environ_get: () => SUCCESS,
      clock_time_get: (_clock, _precision, at) => {
        this.view().setBigUint64(at, BigInt(Date.now()) * 1_000_000n, true);
        return SUCCESS;
      },
      random_get: (at, length) => {
        for (let done = 0; done < length; done += RANDOM_BYTES) {
          crypto.getRandomValues(this.bytes(at + done, Math.min(RANDOM_BYTES, length - done)));
        }
        return SUCCESS;
      },
      proc_exit: (code) => {
        throw new Exit(code);
      },
      sched_yield: () => SUCCESS,
      // Nothing here waits: every subscription is ready.
      poll_oneoff: (subscriptions, events, count, countAt) => {
        const view = this.view();
        for (let index = 0; index < count; index++) {
          const [from, to] = [subscriptions + index * SUBSCRIPTION_BYTES, events + index * EVENT_BYTES];
          this.bytes(to, EVENT_BYTES).fill(0);
          view.setBigUint64(to, view.getBigUint64(from, true), true);
          view.setUint8(to + 10, view.getUint8(from + 8));
        }
        return this.number(countAt, count);
      },
      fd_read: (fd, vector, count, readAt) => {
        if (fd !== 0) return BAD_FILE;
        let read = 0;
        for (const buffer of this.buffers(vector, count)) {
          const part = this.input.subarray(this.at, this.at + buffer.length);
          buffer.set(part);
          this.at += part.length;
          read += part.length;
        }
        return this.number(readAt, read);
      },
      fd_write: (fd, vector, count, writtenAt) => {
        if (fd !== 1 && fd !== 2) return BAD_FILE;
        let written = 0;
        for (const buffer of this.buffers(vector, count)) {
          if (fd === 1 && buffer.length > 0) this.output.push(buffer.slice());
          written += buffer.length;
        }
        return this.number(writtenAt, written);
      },
      fd_fdstat_get: (fd, at) => {
        if (opened(fd) !== SUCCESS) return BAD_FILE;
        const stat = this.bytes(at, FDSTAT_BYTES);
        stat.fill(0);
        stat[0] = CHARACTER_DEVICE;
        stat.fill(0xff, 8);
        return SUCCESS;
      },
      fd_fdstat_set_flags: opened,
      fd_close: opened,
      fd_seek: (fd) => (opened(fd) === SUCCESS ? ILLEGAL_SEEK : BAD_FILE),
      // No folders.
      fd_prestat_get: () => BAD_FILE,
      fd_prestat_dir_name: () => BAD_FILE,
    };
  }
}

export default {
  async fetch(request) {
    const output = new Command(new Uint8Array(await request.arrayBuffer())).run();
    return new Response(output, { headers: { "content-type": "application/json" } });
  },
};
