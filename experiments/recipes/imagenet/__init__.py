"""ImageNet-1k recipes: the main table of the A²MIM paper (Li et al., ICML 2023), pre-training and fine-tuning.

Reproduces. Pre-train with `a2mim_*` or `simmim_*`, then `finetune_*` from its weights; `supervised_*` is the baseline.
Hyper-parameters are those of the released configurations (A2MIM ccca6dc, openmixup 37e1372), DeiT and RSB.

Should reach (top-1 after fine-tuning, as the README of the released code states it; none of it was run here):

                  supervised  SimMIM  A²MIM  fine-tuning              pre-training  GMACs  EFLOP: pre-, fine-tuning
    vit_small     79.9        81.7    82.1   200 epochs (SimMIM 100)  800 epochs    10     61, 15
    vit_base      81.8        83.8    84.2   100                      800           17.6   108, 14
    vit_large     82.6        85.6    86.1   150 (SimMIM 100)         800           61.6   379, 71
    resnet50      79.8        79.9    80.4   300, RSB A2              300           4.1    9.5, 9.5
    resnet50 A3   78.8        –       78.9   100, RSB A3              300           4.1    9.5, 1.6
    resnet101     81.3        81.3    81.9   300, RSB A2              300           7.8    18, 18
    resnet152     81.8        81.9    82.5   300, RSB A2              300           11.6   27, 27
    resnet200     82.1        82.2    83.0   300, RSB A2              300           15.1   35, 35
    convnext_small  83.1      83.2    83.7   300                      300           8.7    20, 20
    convnext_base   83.5      83.6    84.1   300                      300           15.4   36, 36

Contrastive pre-training, by the official hyper-parameters: top-1 of a linear classifier, as the papers state it. (After
finetune_resnet50_a3, 300 epochs of openmixup reach: SimCLR 78.5 (100 epochs), BYOL 78.9, MoCo v3 79.0.)

                      linear  epochs  EFLOP                           linear  epochs  EFLOP
    simclr_resnet50   69.3    1000    63      mocov3_vit_small        73.2    300     28
    byol_resnet50     72.5    300     25      mocov3_vit_base         76.7    300     108
    mocov3_resnet50   72.8    300     25      dino_vit_small          76.0    300     44
    dino_resnet50     75.3 (800 epochs)  100  13

Other masked-image methods, by their released hyper-parameters; fine-tuned top-1 as their own repositories state it:

                       top-1  pre-training  EFLOP                         top-1  pre-training  EFLOP
    mae_vit_base       83.6   1600 epochs   118     spark_resnet50        80.6   1600 epochs   200
    mae_vit_large      85.9   1600          250     spark_resnet101       82.2   1600          250
    maskfeat_vit_base  84.0   1600          216     spark_resnet152       82.7   1600          290
    maskfeat_vit_large 85.7   1600          757     spark_resnet200       83.1   1600          340
                                                    spark_convnext_small  84.1   1600          240
                                                    spark_convnext_base   84.8   1600          330

MAE: a quarter of the encoder and 5.4 GMACs of decoder; SparK: the dense CNN (sparse by masking saves nothing) and 11 to
12 GMACs of decoder and densifying.

Costs. EFLOP = 10¹⁸ floating-point operations, counted as 6 × GMACs × images; an accelerator that sustains 100 TFLOP/s
needs 2.8 hours for one (vit_base: 300 hours to pre-train; 38 on 8 of them). That is arithmetic, not a measurement.

Commands (a2mim may be torchrun --nproc-per-node 8 --no-python a2mim; --accumulate N where memory is short: of batch
statistics, contrastive methods, MaskFeat and fourier=released it changes the result, see recipes/imagenet/a2mim.py):

    a2mim pretrain --recipe imagenet:a2mim_vit_base --data imagenet/train --out runs/a2mim-vit-base
    a2mim finetune --recipe imagenet:finetune_vit_base --weights runs/a2mim-vit-base --data imagenet --out runs/a2mim-ft
    a2mim finetune --recipe imagenet:supervised_resnet50 --data imagenet --out runs/supervised-resnet50

Learning rates follow each release's own formula, at every step; RSB and DeiT change theirs once an epoch, so that these
are the same at whole epochs only.

Known differences from the released code: bf16 instead of fp16; no mix_repeat (two mixed copies of each batch, used for
fine-tuning ViT-B); with averages of weights go averages of batch statistics, where OpenMixup takes the running ones;
vectors and the class token do not decay, where MoCo v3 decays all of a ViT, and where OpenMixup's rules, which go by
names, reach neither the layer norms of a ConvNeXt (in fine-tuning those of stem and downsampling) nor the batch norms
of a ResNet's shortcuts, whose scales decay there; DINO's prototypes decay while they are
fixed, where the official code leaves them out of the step; a fresh classifier is drawn as torch's linear layers are,
where MAE begins at almost nothing (deviation 2e-5), MaskFeat at a thousandth (HEAD_INIT_SCALE), and OpenMixup at a
deviation of 0.01 (ConvNeXts: 0.02).
With another --batch, --warmup-lr and --min-lr of MaskFeat and SparK stay as they are here, where the releases scale
them with the rate (SparK: 0.005 and 0.001 of it; MaskFeat: as --lr): give them beside it.
RSB's binary cross entropy is RSB's own (soft labels count from 0.2 on, the mean over classes), where OpenMixup, which
fine-tuned the networks of A²MIM's table, takes soft labels as they are and sums over classes: --loss bce_sum. Where the
released supervised configurations are not described, DeiT's, RSB's and ConvNeXt's own are used.
"""

from experiments.recipes.imagenet import a2mim, contrastive, labelled, masked

PARTS = (a2mim, contrastive, masked, labelled)
