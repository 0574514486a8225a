"""Detection: pictures with boxes and masks in COCO's format, torchvision's Faster and Mask R-CNN on a backbone's maps,
a method for the one training loop, and COCO's average precision with its interval."""
