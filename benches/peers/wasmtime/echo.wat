;; Answers a request with its body, as a component of wasi:http/incoming-handler: what `wasmtime serve` runs.
;; By hand, so that nothing but wasmtime is needed, and with as few calls of the host as the interfaces allow.
;; An instance that is called twice traps: each request is to have one of its own.
(component
  (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
  (alias export $io-error "error" (type $error))

  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (export "input-stream" (type $input-stream (sub resource)))
    (export "output-stream" (type $output-stream (sub resource)))
    (type $stream-error-cases (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error-cases)))
    (export "[method]input-stream.blocking-read"
      (func (param "self" (borrow $input-stream)) (param "len" u64) (result (result (list u8) (error $stream-error)))))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $output-stream)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $streams "input-stream" (type $input-stream))
  (alias export $streams "output-stream" (type $output-stream))

  (import "wasi:http/types@0.2.0" (instance $types
    (alias outer 1 $input-stream (type $outer-input-stream))
    (export "input-stream" (type $input-stream (eq $outer-input-stream)))
    (alias outer 1 $output-stream (type $outer-output-stream))
    (export "output-stream" (type $output-stream (eq $outer-output-stream)))
    (export "fields" (type $fields (sub resource)))
    (export "incoming-request" (type $incoming-request (sub resource)))
    (export "incoming-body" (type $incoming-body (sub resource)))
    (export "outgoing-response" (type $outgoing-response (sub resource)))
    (export "outgoing-body" (type $outgoing-body (sub resource)))
    (export "response-outparam" (type $response-outparam (sub resource)))
    (type $header-error-cases (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
    (export "header-error" (type $header-error (eq $header-error-cases)))
    (type $dns-fields (record (field "rcode" (option string)) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns (eq $dns-fields)))
    (type $tls-fields (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
    (export "TLS-alert-received-payload" (type $tls (eq $tls-fields)))
    (type $field-size-fields (record (field "field-name" (option string)) (field "field-size" (option u32))))
    (export "field-size-payload" (type $field-size (eq $field-size-fields)))
    (type $error-code-cases (variant
      (case "DNS-timeout") (case "DNS-error" $dns) (case "destination-not-found") (case "destination-unavailable")
      (case "destination-IP-prohibited") (case "destination-IP-unroutable") (case "connection-refused")
      (case "connection-terminated") (case "connection-timeout") (case "connection-read-timeout")
      (case "connection-write-timeout") (case "connection-limit-reached") (case "TLS-protocol-error")
      (case "TLS-certificate-error") (case "TLS-alert-received" $tls) (case "HTTP-request-denied")
      (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
      (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid") (case "HTTP-request-URI-too-long")
      (case "HTTP-request-header-section-size" (option u32)) (case "HTTP-request-header-size" (option $field-size))
      (case "HTTP-request-trailer-section-size" (option u32)) (case "HTTP-request-trailer-size" $field-size)
      (case "HTTP-response-incomplete") (case "HTTP-response-header-section-size" (option u32))
      (case "HTTP-response-header-size" $field-size) (case "HTTP-response-body-size" (option u64))
      (case "HTTP-response-trailer-section-size" (option u32)) (case "HTTP-response-trailer-size" $field-size)
      (case "HTTP-response-transfer-coding" (option string)) (case "HTTP-response-content-coding" (option string))
      (case "HTTP-response-timeout") (case "HTTP-upgrade-failed") (case "HTTP-protocol-error") (case "loop-detected")
      (case "configuration-error") (case "internal-error" (option string))))
    (export "error-code" (type $error-code (eq $error-code-cases)))
    (export "[static]fields.from-list"
      (func (param "entries" (list (tuple string (list u8)))) (result (result (own $fields) (error $header-error)))))
    (export "[method]incoming-request.consume"
      (func (param "self" (borrow $incoming-request)) (result (result (own $incoming-body)))))
    (export "[method]incoming-body.stream"
      (func (param "self" (borrow $incoming-body)) (result (result (own $input-stream)))))
    (export "[constructor]outgoing-response" (func (param "headers" (own $fields)) (result (own $outgoing-response))))
    (export "[method]outgoing-response.body"
      (func (param "self" (borrow $outgoing-response)) (result (result (own $outgoing-body)))))
    (export "[method]outgoing-body.write"
      (func (param "self" (borrow $outgoing-body)) (result (result (own $output-stream)))))
    (export "[static]outgoing-body.finish"
      (func (param "this" (own $outgoing-body)) (param "trailers" (option (own $fields))) (result (result (error $error-code)))))
    (export "[static]response-outparam.set"
      (func (param "param" (own $response-outparam)) (param "response" (result (own $outgoing-response) (error $error-code)))))))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "incoming-body" (type $incoming-body))
  (alias export $types "response-outparam" (type $response-outparam))

  ;; The memory, apart as host calls name it before the code that makes them exists. What the host hands over is put
  ;; one after the other; an instance lives for one request.
  (core module $memory
    (memory (export "memory") 2)
    (global $top (mut i32) (i32.const 4096))
    (func (export "realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and
        (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
      (global.set $top (i32.add (local.get $at) (local.get $size)))
      (if (i32.gt_u (global.get $top) (i32.shl (memory.size) (i32.const 16)))
        (then (if (i32.eq (i32.const -1)
          (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $size) (i32.const 16)))))
          (then (unreachable)))))
      (memory.copy (local.get $at) (local.get $old) (local.get $old-size))
      (local.get $at)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "realloc" (core func $realloc))

  (core func $read (canon lower (func $streams "[method]input-stream.blocking-read")
    (memory $memory) (realloc $realloc)))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
  (core func $from-list (canon lower (func $types "[static]fields.from-list") (memory $memory)))
  (core func $consume (canon lower (func $types "[method]incoming-request.consume") (memory $memory)))
  (core func $stream (canon lower (func $types "[method]incoming-body.stream") (memory $memory)))
  (core func $response (canon lower (func $types "[constructor]outgoing-response")))
  (core func $body (canon lower (func $types "[method]outgoing-response.body") (memory $memory)))
  (core func $body-write (canon lower (func $types "[method]outgoing-body.write") (memory $memory)))
  (core func $finish (canon lower (func $types "[static]outgoing-body.finish")
    (memory $memory) (realloc $realloc)))
  (core func $set (canon lower (func $types "[static]response-outparam.set") (memory $memory)))
  (core func $drop-request (canon resource.drop $incoming-request))
  (core func $drop-body (canon resource.drop $incoming-body))
  (core func $drop-input (canon resource.drop $input-stream))
  (core func $drop-output (canon resource.drop $output-stream))

  (core module $main
    (import "memory" "memory" (memory 2))
    (import "memory" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "host" "read" (func $read (param i32 i64 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "from-list" (func $from-list (param i32 i32 i32)))
    (import "host" "consume" (func $consume (param i32 i32)))
    (import "host" "stream" (func $stream (param i32 i32)))
    (import "host" "response" (func $response (param i32) (result i32)))
    (import "host" "body" (func $body (param i32 i32)))
    (import "host" "body-write" (func $body-write (param i32 i32)))
    (import "host" "finish" (func $finish (param i32 i32 i32 i32)))
    (import "host" "set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "host" "drop-request" (func $drop-request (param i32)))
    (import "host" "drop-body" (func $drop-body (param i32)))
    (import "host" "drop-input" (func $drop-input (param i32)))
    (import "host" "drop-output" (func $drop-output (param i32)))
    (global $called (mut i32) (i32.const 0))
    ;; 0: what a call returns. 128: two headers as (name, length, value, length). 512 to 640: the length in decimal, then texts.
    (data (i32.const 128) "\80\02\00\00\0c\00\00\00\8c\02\00\00\10\00\00\00\9c\02\00\00\0e\00\00\00")
    (data (i32.const 640) "content-typeapplication/jsoncontent-length")

    ;; What a call returned at 0 as `result<own>`: its handle, else a trap.
    (func $handle (result i32)
      (if (i32.load8_u (i32.const 0)) (then (unreachable)))
      (i32.load (i32.const 4)))

    ;; `value` as decimal digits that end at 640: where they begin.
    (func $decimal (param $value i32) (result i32)
      (local $at i32)
      (local.set $at (i32.const 640))
      (loop $next
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $value) (i32.const 10))))
        (local.set $value (i32.div_u (local.get $value) (i32.const 10)))
        (br_if $next (local.get $value)))
      (local.get $at))

    (func (export "handle") (param $request i32) (param $out i32)
      (local $incoming i32) (local $input i32) (local $response i32) (local $outgoing i32) (local $output i32)
      (local $at i32) (local $length i32) (local $whole i32) (local $end i32)
      (if (global.get $called) (then (unreachable)))
      (global.set $called (i32.const 1))

      (call $consume (local.get $request) (i32.const 0))
      (local.set $incoming (call $handle))
      (call $stream (local.get $incoming) (i32.const 0))
      (local.set $input (call $handle))
      ;; Reads end with an error that says `closed`. They lie one after the other, so together they are the body.
      (block $closed
        (loop $more
          (call $read (local.get $input) (i64.const 65536) (i32.const 0))
          (if (i32.load8_u (i32.const 0))
            (then
              (br_if $closed (i32.eq (i32.load8_u (i32.const 4)) (i32.const 1)))
              (unreachable)))
          (if (i32.eqz (local.get $whole)) (then (local.set $at (i32.load (i32.const 4)))))
          (local.set $whole (i32.add (local.get $whole) (i32.load (i32.const 8))))
          (br $more)))
      (call $drop-input (local.get $input))
      (call $drop-body (local.get $incoming))
      (call $drop-request (local.get $request))

      (i32.store (i32.const 152) (call $decimal (local.get $whole)))
      (i32.store (i32.const 156) (i32.sub (i32.const 640) (i32.load (i32.const 152))))
      (call $from-list (i32.const 128) (i32.const 2) (i32.const 0))
      (local.set $response (call $response (call $handle)))
      (call $body (local.get $response) (i32.const 0))
      (local.set $outgoing (call $handle))
      (call $set (local.get $out) (i32.const 0) (local.get $response)
        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (call $body-write (local.get $outgoing) (i32.const 0))
      (local.set $output (call $handle))
      (local.set $end (i32.add (local.get $at) (local.get $whole)))
      ;; At most 4,096 bytes a write, as the interface says.
      (loop $more
        (local.set $length (i32.sub (local.get $end) (local.get $at)))
        (if (i32.gt_u (local.get $length) (i32.const 4096)) (then (local.set $length (i32.const 4096))))
        (if (local.get $length)
          (then
            (call $write (local.get $output) (local.get $at) (local.get $length) (i32.const 0))
            (if (i32.load8_u (i32.const 0)) (then (unreachable)))
            (local.set $at (i32.add (local.get $at) (local.get $length)))
            (br $more))))
      (call $drop-output (local.get $output))
      (call $finish (local.get $outgoing) (i32.const 0) (i32.const 0) (i32.const 0))
      (if (i32.load8_u (i32.const 0)) (then (unreachable)))))
  (core instance $i (instantiate $main
    (with "memory" (instance $m))
    (with "host" (instance
      (export "read" (func $read))
      (export "write" (func $write))
      (export "from-list" (func $from-list))
      (export "consume" (func $consume))
      (export "stream" (func $stream))
      (export "response" (func $response))
      (export "body" (func $body))
      (export "body-write" (func $body-write))
      (export "finish" (func $finish))
      (export "set" (func $set))
      (export "drop-request" (func $drop-request))
      (export "drop-body" (func $drop-body))
      (export "drop-input" (func $drop-input))
      (export "drop-output" (func $drop-output))))))

  (func $handle (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
    (canon lift (core func $i "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
