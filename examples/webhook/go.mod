module example.com/functions/webhook

go 1.24

require orama v0.0.0

replace orama => ../../sdk/go
