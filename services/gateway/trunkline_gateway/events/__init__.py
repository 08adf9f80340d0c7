"""Events, rejections and replays as operators and tenants see, repeat and delete them."""
