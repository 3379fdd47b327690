module example.com/allocator

go 1.24
