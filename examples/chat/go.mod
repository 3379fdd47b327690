module example.com/functions/chat

go 1.24

require orama v0.0.0

replace orama => ../../sdk/go
